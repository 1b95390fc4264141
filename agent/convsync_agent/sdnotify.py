"""sd_notify(3): one datagram to whoever started us and wants to know. Silent where nobody does."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping


class Notifier:
    """Says how we are. What cannot be delivered is dropped: work never waits for who only watches it."""

    def __init__(self, env: MutableMapping[str, str]) -> None:
        """Takes the variables out of `env`: what we start must not speak in our name."""
        self._address = env.pop("NOTIFY_SOCKET", "")
        seconds = env.pop("WATCHDOG_USEC", "")
        meant = env.pop("WATCHDOG_PID", "") in ("", str(os.getpid()))
        usual = self.wanted and meant and seconds.isascii() and seconds.isdigit()
        self.watchdog = int(seconds) / 1e6 if usual else 0.0
        self._socket: socket.socket | None = None

    @property
    def wanted(self) -> bool:
        return self._address[:1] in ("/", "@")

    def send(self, **fields: str) -> None:
        """Variables of sd_notify(3), in the order given."""
        if not self.wanted:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError):
            if self._socket is None:  # and from then on the same, so that we are heard when no descriptor is left
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                self._socket.setblocking(False)
            self._socket.sendto("\n".join(f"{k}={v}" for k, v in fields.items()).encode(), address)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def monotonic_usec() -> str:
    """Now, as MONOTONIC_USEC wants it."""
    return str(time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)
