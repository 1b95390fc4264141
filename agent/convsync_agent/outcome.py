"""What one cycle did and found, and the part of a plan that concerns some conversations."""

from __future__ import annotations

from dataclasses import dataclass, field

from convsync_agent.plan import Action, Behind, Deferred, Plan, Problem, size_of
from convsync_agent.results import Done, Failed, Result


@dataclass(slots=True)
class Outcome:
    """What one cycle did and found. `again` maps a conversation to when (ns from now) to look once more."""

    results: list[Result] = field(default_factory=list)
    deferred: list[Deferred] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    again: dict[int, int] = field(default_factory=dict)
    looked: set[int] = field(default_factory=set)
    behind: list[Behind] = field(default_factory=list)

    @property
    def done(self) -> list[Done]:
        return [r for r in self.results if isinstance(r, Done)]

    @property
    def failed(self) -> list[Failed]:
        return [r for r in self.results if isinstance(r, Failed)]

    @property
    def written(self) -> int:
        return sum(r.files for r in self.done)

    @property
    def amounts(self) -> list[tuple[Action, int, int]]:
        """(action, files, bytes) of everything that was done."""
        return [(r.action, r.files, size_of(r.action)) for r in self.done]

    def later(self, conversation: int, ns: int) -> None:
        self.again[conversation] = min(ns, self.again.get(conversation, ns))


def replace_scope(plan: Plan, conversations: set[int]) -> Plan:
    """The part of a plan that concerns these conversations, and what concerns none."""
    return Plan(
        tuple(a for a in plan.actions if a.conversation in conversations),
        tuple(d for d in plan.deferred if d.conversation in conversations),
        tuple(p for p in plan.problems if p.conversation is None or p.conversation in conversations),
        tuple(a for a in plan.again if a[0] in conversations),
        tuple(b for b in plan.behind if b.conversation in conversations),
    )
