"""The user unit of the agent for systemd, as text. Pure: facts in, a document out.

Every line that is not obvious says in the unit itself why it is there; people read units, not their generators.
"""

from __future__ import annotations

from convsync_agent.service import Launch

MARK = "# Written by `convsync service install`, which writes it anew on an upgrade."
WATCHDOG_SECONDS = 90

_TEXT = """\
{mark}
# Changes of your own belong beside it, where they stay: systemctl --user edit convsync

[Unit]
Description=convsync agent: keeps JP conversations durable across git worktrees
# What a restart does not mend after ten times is left alone until somebody looks.
StartLimitIntervalSec=5min
StartLimitBurst=10

[Service]
# Ready means: every watch is armed, the first scan is done, and what it found is in step.
Type=notify
NotifyAccess=main
# The colon: no $VARIABLE is expanded in this line.
ExecStart=:{command}
ExecReload=kill -HUP $MAINPID
{environment}\
# A long first import asks for more time as long as it gets on.
TimeoutStartSec=90s
# Told by the loop that does the work, each time its watcher was seen to hear (every 30 s).
WatchdogSec={watchdog}s
# The agent finishes the action in hand, and what is due for at most 5 s.
TimeoutStopSec=20s
Restart=on-failure
RestartSec=2s
# 2 a mistake in the settings, 3 no home directory, 4 another agent runs: a restart would find the same.
RestartPreventExitStatus=2 3 4
# A second SIGTERM or Ctrl-C ends it at once, on purpose.
SuccessExitStatus=130 143
UMask=0077
# Where commands ask the agent. It stays when the service stops: an agent run by hand has it, too.
RuntimeDirectory=convsync
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes
# A core dump would hold text of conversations.
LimitCORE=0

# Without a user namespace, user managers before 253 ignore the directories below without a word.
PrivateUsers=yes
# Not `strict` with a path for each root: each would be a mount of its own, across which nothing can be renamed and
# which does not follow a worktree that is deleted and made again. Not ProtectHome: it hides the notify socket.
ProtectSystem=full
InaccessiblePaths=-%h/.ssh -%h/.gnupg -%h/.aws
NoNewPrivileges=yes
CapabilityBoundingSet=
LockPersonality=yes
MemoryDenyWriteExecute=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
# Only sockets of this machine: the service manager, the session bus. convsync has no use for a network.
RestrictAddressFamilies=AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=default.target
"""


def render(launch: Launch) -> str:
    """The unit. A service does not see the variables of a shell, so those that count are in it."""
    lines = [f"Environment={quoted(f'{name}={value}')}\n" for name, value in launch.environment]
    if lines:
        lines.insert(0, "# As they were in the shell that installed it.\n")
    return _TEXT.format(
        mark=MARK,
        command=" ".join(quoted(word) for word in launch.argv),
        environment="".join(lines),
        watchdog=WATCHDOG_SECONDS,
    )


def quoted(word: str) -> str:
    """One word of a unit file, whatever is in it: quotes, backslashes, line breaks, `%`, spaces."""
    escaped = "".join(_ESCAPES.get(c) or (f"\\x{ord(c):02x}" if c < " " or c == "\x7f" else c) for c in word)
    plain = bool(word) and escaped == word and not set(word) & _SPECIAL
    return word if plain else f'"{escaped}"'


_ESCAPES = {"%": "%%", "\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}
_SPECIAL = frozenset(" '#;,")
