"""Take out of a text what says who wrote it: the home directory, the name of the user, secrets, chat text in paths."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from convsync_agent.redact import scrub

NOBODY_IN_PARTICULAR = frozenset({"", "root"})
_END = r"(?![\w.-])"
_VALUE = re.compile(r"= .*?(?=; did you mean|; allowed| is not allowed| is set by |$)")
_FLAG = re.compile(r"(--set: ).*?(?= is not KEY=VALUE)")


def impersonal(value: object, homes: Sequence[str], user: str) -> Any:
    """`value` as plain data that may be given away. `homes`: paths that become `~`; `user`: a name in other paths."""
    return _rewritten(scrub(value), _rules(homes, user))


def without_values(mistake: str) -> str:
    """A message about settings that names the key and does not repeat what was set: it may be anything."""
    return _FLAG.sub(r"\1[value]", _VALUE.sub("= [value]", mistake))


def _rules(homes: Sequence[str], user: str) -> list[tuple[re.Pattern[str], str]]:
    longest_first = sorted({h.rstrip("/") for h in homes if h.rstrip("/")}, key=len, reverse=True)
    rules = [(re.compile(rf"(?<![\w.-]){re.escape(home)}{_END}"), "~") for home in longest_first]
    if user not in NOBODY_IN_PARTICULAR:
        rules.append((re.compile(rf"(?<=/){re.escape(user)}{_END}"), "USER"))
    return rules


def _rewritten(value: Any, rules: list[tuple[re.Pattern[str], str]]) -> Any:
    if isinstance(value, str):
        for pattern, instead in rules:
            value = pattern.sub(instead, value)
        return value
    if isinstance(value, dict):
        return {_rewritten(k, rules): _rewritten(v, rules) for k, v in value.items()}
    return [_rewritten(v, rules) for v in value] if isinstance(value, list) else value
