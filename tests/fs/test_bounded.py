"""Looking at several things with an end to patience: what hangs is left behind, what fails is told."""

import os
import threading

from convsync_agent.bounded import Answer, looked


def test_what_hangs_is_left_behind(tmp_path):
    """A look that does not come back costs its time once, and the others have their answers; late, it changes none."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    opened = threading.Event()

    def hang():
        with open(pipe, "rb"):  # nobody writes: this waits in the kernel
            opened.set()
        return "late"

    def fail():
        raise PermissionError(13, "denied")

    try:
        found = looked({"hangs": hang, "fails": fail, "works": lambda: 7}, seconds=0.5)
        assert found["hangs"] == Answer()
        assert found["works"] == Answer(done=True, value=7)
        assert found["fails"].done
        assert isinstance(found["fails"].failure, PermissionError)
    finally:
        os.close(os.open(pipe, os.O_RDWR))
        writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK) if not opened.is_set() else None
        if writer is not None:
            os.close(writer)
    assert opened.wait(10)
    assert found["hangs"] == Answer()


def test_nothing_to_look_at():
    """No looks, no answers."""
    assert looked({}, 1.0) == {}
