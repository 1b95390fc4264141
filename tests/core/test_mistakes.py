"""What a log says of mistakes in the settings."""

import pytest

from convsync_agent.config import load, mistakes_of, without_value
from convsync_agent.errors import UsageProblem


def test_mistakes_for_a_log_hold_no_value(tmp_path):
    """Place, key and what is allowed; a value may be a secret that went to the wrong key."""
    secret = "= hunter2; allowed: x is set by y"
    file = tmp_path / "config.toml"
    file.write_text(f'[notify]\ncomand = "{secret}"\n[import]\npolicy = "{secret}"\n')
    env = {"CONVSYNC_TRASH__KEEP_DAYS": secret, "CONVSYNC_NO_SUCH": secret}

    with pytest.raises(UsageProblem) as raised:
        load(str(file), env)
    told = [without_value(m) for m in mistakes_of(raised.value)]

    assert len(told) == 4
    assert "hunter2" in raised.value.message
    assert "hunter2" not in " ".join(told)
    assert all(key in " ".join(told) for key in ("notify.comand", "import.policy", "trash.keep_days", "no_such"))
