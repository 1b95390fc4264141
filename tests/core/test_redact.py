"""Secrets go, the rest stays. The samples are put together here, so that no scanner takes this file for a leak."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync_agent import redact

B62 = "Ab3dE6gH9jK2mN5pQ8sT1vW4xY7zA0cF3iL6oR9uX2"
B32 = "ABCDEFGHIJKLMNOP"
PEM_BODY = "MIIEpAIBAAKCAQEA7\nq1w2e3r4t5y6u7i8o9p0==\n"
PEM = "-----BEGIN RSA " + "PRIVATE KEY-----\n" + PEM_BODY + "-----END RSA " + "PRIVATE KEY-----"

SECRETS = [
    ("aws_akid", "AKIA" + B32),
    ("aws_akid", "ASIA" + B32),
    ("github", "ghp_" + B62[:36]),
    ("github", "ghs_" + B62[:40]),
    ("github_pat", "github_pat_" + B62[:30]),
    ("gitlab", "glpat-" + B62[:20]),
    ("anthropic", "sk-ant-" + "api03-" + B62[:30]),
    ("openai", "sk-" + B62[:24]),
    ("openai", "sk-proj-" + B62[:24]),
    ("google", "AIza" + B62[:35]),
    ("slack", "xoxb-" + B62[:12]),
    ("stripe", "sk_live_" + B62[:16]),
    ("npm", "npm_" + B62[:36]),
    ("pypi", "pypi-" + B62 + B62[:10]),
    ("huggingface", "hf_" + B62[:30]),
    ("jwt", "eyJ" + B62[:12] + ".eyJ" + B62[:12] + "." + B62[:12]),
    ("pem", PEM),
    ("pem", PEM.replace("\n", "\\n")),
    ("pem", "-----BEGIN " + "PRIVATE KEY-----\n" + PEM_BODY),
    ("bearer", "Bearer " + B62[:16] + "=="),
]


@pytest.mark.parametrize(("kind", "secret"), SECRETS, ids=[f"{kind}-{n}" for n, (kind, _) in enumerate(SECRETS)])
@pytest.mark.parametrize(
    "frame",
    ["{}", "before {} after", '{{"a": "{}", "b": 1}}', "line\n{}\nline"],
    ids=["alone", "prose", "json", "lines"],
)
def test_a_secret_goes_and_its_kind_stays(frame, kind, secret):
    """Nothing of the secret is left, everything around it is, and the kind is told."""
    text = frame.format(secret)
    cleaned = redact.redact(text)

    assert [kind] == redact.find(text)
    assert f"[redacted:{kind}]" in cleaned
    assert secret not in cleaned
    assert not any(part in cleaned for part in re.split(r"\\n|\W", secret) if len(part) >= 16)
    assert cleaned.startswith(frame.partition("{}")[0].replace("{{", "{"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "postgres://me:" + "hunter22@db:5432/x", "postgres://me:[redacted:url_password]@db:5432/x", id="url"
        ),
        pytest.param("password=" + "hunter2hunter2", "password=[redacted:key_value]", id="name = value"),
        pytest.param('{"API_KEY": "' + B62[:12] + '"}', '{"API_KEY": "[redacted:key_value]"}', id="JSON member"),
        pytest.param("access-key : '" + B62[:9] + "'", "access-key : '[redacted:key_value]'", id="YAML"),
        pytest.param("Token=" + B62[:8] + ", n=3", "Token=[redacted:key_value], n=3", id="up to the comma"),
        pytest.param("token=" + "ghp_" + B62[:36], "token=[redacted:github]", id="the more specific kind is told"),
        pytest.param(
            "AKIA" + B32 + " and sk-" + B62[:24],
            "[redacted:aws_akid] and [redacted:openai]",
            id="two kinds in one text",
        ),
        pytest.param(
            "ghp_" + B62[:36] + " ghp_" + B62[1:37], "[redacted:github] [redacted:github]", id="one kind twice"
        ),
    ],
)
def test_only_the_value_goes(text, expected):
    """What stands around the value, the name of a key or the user of a URL, stays readable."""
    assert expected == redact.redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "settled 3 conversations in 12 ms",
        "jp-c17457886043",
        "3f0d1c2b-aaaa-4bbb-8ccc-0123456789ab",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "https://example.org:8080/path?q=1",
        "git@github.com:dcdpr/jp.git",
        "the token is short: abc",
        "password: yes",
        "sk-short",
        "task-runner-with-a-very-long-name-here",
        "AKIAISNOTLONG",
        "-----BEGIN CERTIFICATE-----",
        "the bearer of bad news",
    ],
)
def test_what_only_looks_like_one_stays(text):
    """Ids, digests, URLs and prose are left alone, byte for byte."""
    assert text == redact.redact(text)
    assert redact.find(text) == []


def test_kinds_come_once_and_in_order():
    """However often a kind occurs, it is named once, in the order of the table."""
    text = " ".join(secret for _, secret in reversed(SECRETS))
    order = [pattern.kind for pattern in redact.PATTERNS]
    found = redact.find(text)

    assert sorted({kind for kind, _ in SECRETS}, key=order.index) == found


@given(st.lists(st.sampled_from([s for _, s in SECRETS] + ["token=", "password: ", " ", "x", "://u:pass@h"])))
def test_redacting_twice_changes_nothing(parts):
    """What is clean stays as it is: a log line may pass here more than once."""
    once = redact.redact("\n".join(parts))

    assert once == redact.redact(once)


@given(st.text() | st.lists(st.sampled_from([s for _, s in SECRETS] + ["TOKEN=" + B62, "BEARER " + B62])).map(" ".join))
def test_the_quick_look_misses_nothing(text):
    """A text that no hint was seen in is one that no pattern matches."""
    for pattern in redact.PATTERNS:
        seen = any(hint in (text.lower() if pattern.folded else text) for hint in pattern.hints)

        assert seen or not pattern.regex.search(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("17457886043-simple-title", "17457886043", id="a name"),
        pytest.param(
            "/r/conversations/17457886043-my-plan/events.json", "/r/conversations/17457886043/events.json", id="path"
        ),
        pytest.param("'/r/.archive/17457886043-àéî-i̇stanbul'", "'/r/.archive/17457886043'", id="other scripts, quoted"),
        pytest.param("17457886043-हिन-दी/x", "17457886043/x", id="combining marks"),
        pytest.param("17457886043-a-\udcff-b", "17457886043", id="bytes that are no text"),
        pytest.param("a 17457886043--x b 17457886044-y", "a 17457886043 b 17457886044", id="two"),
        pytest.param("17457886043", "17457886043", id="no slug"),
        pytest.param("jp-c17457886043-otvo8", "jp-c17457886043-otvo8", id="the long form of an id"),
        pytest.param("/home/me/feature-b/.jp", "/home/me/feature-b/.jp", id="the path of a root"),
        pytest.param("2026-11-21T10:09:00.123Z", "2026-11-21T10:09:00.123Z", id="a time"),
    ],
)
def test_slugs_go(text, expected):
    """A slug is chat text (R9): of a directory's name only the id may be told."""
    assert expected == redact.strip_slugs(text)


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("token", True),
        ("github_token", True),
        ("API-KEY", True),
        ("db.password", True),
        ("key", False),
        ("tokens", False),
        ("conversation", False),
        ("keyboard", False),
    ],
)
def test_names_of_secrets(name, secret):
    """Under such a name any value is a secret."""
    assert secret is redact.secret_name(name)


def test_scrub_reaches_every_depth():
    """Text is cleaned wherever it is, objects become text first, and numbers stay numbers."""
    from pathlib import PurePosixPath

    class Odd:
        def __repr__(self):
            return "Odd(sk-" + B62[:24] + ")"

    facts = {
        "n": 3,
        "ok": True,
        "none": None,
        "deep": [{"a": ("sk-" + B62[:24],)}],
        "odd": Odd(),
        "path": PurePosixPath("/r/17457886043-title/x"),
        "token": "short",
        "ghp_" + B62[:36]: 1,
        "error": OSError(2, "gone", "/r/17457886043-title"),
    }

    assert redact.scrub(facts) == {
        "n": 3,
        "ok": True,
        "none": None,
        "deep": [{"a": ["[redacted:openai]"]}],
        "odd": "Odd([redacted:openai])",
        "path": "/r/17457886043/x",
        "token": "[redacted:key_value]",
        "[redacted:github]": 1,
        "error": "[Errno 2] gone: '/r/17457886043'",
    }
