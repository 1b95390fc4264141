"""What a secret looks like, and the two things to do about it: take it out, or name its kind.

`scrub` takes it out of the facts of a log line, however deep, and chat text out of paths with it: the
slug in the name of a conversation's directory comes from its title (R9). Pure functions on text; each
pattern runs only where a cheap substring test says it may hit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Pattern(NamedTuple):
    """One kind of secret. The first group, where there is one, is the value; else all of the match is.

    `hints`: text without any of them cannot match. They are lower case when `folded`.
    """

    kind: str
    regex: re.Pattern[str]
    hints: tuple[str, ...]
    folded: bool = False


_PEM_NAME = r"(?:[A-Z0-9]+ )*PRIVATE KEY-----"

# The order matters: what is specific comes first, so that a general kind does not rename it.
PATTERNS = (
    # The header is what tells; the body has to go with it, also when its line ends are written as \n.
    Pattern(
        "pem",
        re.compile(rf"-----BEGIN {_PEM_NAME}(?:(?s:.*?)-----END {_PEM_NAME}|[A-Za-z0-9+/=\s\\]*)"),
        ("PRIVATE KEY",),
    ),
    Pattern("aws_akid", re.compile(r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b"), ("AKIA", "ASIA", "ABIA", "ACCA")),
    Pattern("github", re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36,255}\b"), ("ghp_", "gho_", "ghu_", "ghs_", "ghr_")),
    Pattern("github_pat", re.compile(r"\bgithub_pat_[A-Za-z0-9_]{22,255}\b"), ("github_pat_",)),
    Pattern("gitlab", re.compile(r"\bglpat-[\w-]{20,}"), ("glpat-",)),
    Pattern("anthropic", re.compile(r"\bsk-ant-[a-z0-9]+-[\w-]{20,}"), ("sk-ant-",)),
    Pattern("openai", re.compile(r"\bsk-(?:proj-|svcacct-|admin-)?[\w-]{20,}"), ("sk-",)),
    Pattern("google", re.compile(r"\bAIza[\w-]{35}\b"), ("AIza",)),
    Pattern("slack", re.compile(r"\bxox[abprs]-[\w-]{10,}"), ("xox",)),
    Pattern("stripe", re.compile(r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}"), ("k_live_", "k_test_")),
    Pattern("npm", re.compile(r"\bnpm_[A-Za-z0-9]{36}\b"), ("npm_",)),
    Pattern("pypi", re.compile(r"\bpypi-[\w-]{50,}"), ("pypi-",)),
    Pattern("huggingface", re.compile(r"\bhf_[A-Za-z0-9]{30,}"), ("hf_",)),
    Pattern("jwt", re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"), ("eyJ",)),
    Pattern("url_password", re.compile(r"""\b[a-z][a-z0-9+.-]*://[^\s/:@"']{1,64}:([^\s/:@"']{3,})@"""), ("://",)),
    Pattern("bearer", re.compile(r"(?i:\bbearer\s+[\w.~+/-]{16,}=*)"), ("bearer",), folded=True),
    # The look-ahead leaves alone what a more specific kind has replaced already.
    Pattern(
        "key_value",
        re.compile(
            r"""(?i:\b(?:api[_-]?key|secret|passw(?:or)?d|token|auth[_-]?token|access[_-]?key)\b["']?\s*[:=]\s*["']?"""
            r"""(?!\[redacted:)([^\s"',;]{8,}))"""
        ),
        ("key", "secret", "passw", "token"),
        folded=True,
    ),
)

_NAME = re.compile(r"(?i:(?:^|[_.-])(?:api[_-]?key|secret|passw(?:or)?d|token|access[_-]?key)$)")
_SLUG = re.compile(r"""(?<![\w.:-])([0-9]{9,12})-[^\s/"'`,;:()\[\]{}<>|=]+""")


def redact(text: str) -> str:
    """`text` with the value of every secret replaced by `[redacted:kind]`."""
    return _scan(text)[0]


def find(text: str) -> list[str]:
    """The kinds of secrets in `text`, each once, in the order of the table."""
    return _scan(text)[1]


def secret_name(name: str) -> bool:
    """A value under this name is a secret whatever it looks like."""
    return _NAME.search(name) is not None


def strip_slugs(text: str) -> str:
    """`text` with the names of conversation directories cut down to their ids."""
    return _SLUG.sub(r"\1", text) if "-" in text else text


def scrub(value: object, name: str = "") -> Any:
    """`value`, known as `name`, as plain data for a log: no secrets, no slugs, nothing left to be made text of."""
    if value is None or type(value) in (bool, int, float):
        return value
    if isinstance(value, Mapping):
        return {_scrub_text(str(key)): scrub(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [scrub(inner, name) for inner in value]
    said = isinstance(value, (str, BaseException)) or hasattr(value, "__fspath__")
    text = str(value) if said else repr(value)
    return "[redacted:key_value]" if text and secret_name(name) else _scrub_text(text)


def _scrub_text(text: str) -> str:
    return strip_slugs(redact(text))


def _scan(text: str) -> tuple[str, list[str]]:
    folded = text.lower()
    kinds = []
    for pattern in PATTERNS:
        haystack = folded if pattern.folded else text
        if not any(hint in haystack for hint in pattern.hints):
            continue
        text, hits = pattern.regex.subn(_replacement(pattern), text)
        if hits:
            kinds.append(pattern.kind)
    return text, kinds


def _replacement(pattern: Pattern) -> Callable[[re.Match[str]], str]:
    mark = f"[redacted:{pattern.kind}]"
    if not pattern.regex.groups:
        return lambda _: mark

    def keep_around(hit: re.Match[str]) -> str:
        start, end = hit.start(1) - hit.start(), hit.end(1) - hit.start()
        return hit[0][:start] + mark + hit[0][end:]

    return keep_around
