"""Small file systems of their own, on loop devices: their power can fail, they can freeze, fill up or go read-only."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import shutil
import struct
import subprocess
import tempfile
import time
from pathlib import Path

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2  # what is not committed to the journal is gone, as after a power failure


def command(*argv) -> str:
    ran = subprocess.run([str(a) for a in argv], check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran
    return ran.stdout.strip()


def patiently(*argv, but="nothing else") -> None:
    """The same, for as long as something is busy."""
    deadline = time.monotonic() + 60
    while True:
        ran = subprocess.run([str(a) for a in argv], check=False, capture_output=True, text=True)
        if ran.returncode == 0 or but in ran.stderr:
            return
        assert "busy" in ran.stderr, ran
        assert time.monotonic() < deadline, ran
        time.sleep(0.01)


class Disk:
    """An ext4 in the file `image`, mounted at `at`. `options`: of mkfs, such as `-N 64` for few inodes."""

    def __init__(self, image: Path, at: Path, size: int = 64 << 20, options: tuple[str, ...] = ()):
        self.image, self.at = image, at
        with open(image, "wb") as file:
            file.truncate(size)
        command("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", *options, image)
        self.mount()

    def mount(self, options: str = "") -> None:
        """Waits for the loop device of the last time, which the kernel gives back when nobody looks at it any more."""
        deadline = time.monotonic() + 60
        while True:
            patiently("mount", "-o", f"loop,data=ordered{options and ','}{options}", self.image, self.at)
            if self._answers():
                return
            # The one whose power failed is still there: a mount namespace that somebody has just made has a copy.
            assert time.monotonic() < deadline, f"{self.at} stays without power"
            self.unmount()
            time.sleep(0.05)

    def _answers(self) -> bool:
        fd = os.open(self.at, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return False
        finally:
            os.close(fd)
        return True

    def unmount(self) -> None:
        """Waits for programs that are just leaving it."""
        patiently("umount", self.at, but="not mounted")

    def cut(self) -> None:
        """The power fails now: every call on it fails from here on, and what was not durable is gone."""
        fd = os.open(self.at, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def again(self) -> None:
        """The power is back: the journal is replayed."""
        self.unmount()
        self.mount()

    def remount(self, how: str) -> None:
        command("mount", "-o", f"remount,{how}", self.at)

    def freeze(self) -> None:
        """Whoever writes to it hangs until `thaw`, and no signal helps."""
        command("fsfreeze", "-f", self.at)

    def thaw(self) -> None:
        subprocess.run(["fsfreeze", "-u", str(self.at)], check=False, capture_output=True)

    def remember(self, picture: Path) -> None:
        self.unmount()
        command("cp", "--sparse=always", self.image, picture)
        self.mount()

    def set_back(self, picture: Path) -> None:
        self.unmount()
        command("cp", "--sparse=always", picture, self.image)
        self.mount()

    def remove(self) -> None:
        self.thaw()
        with contextlib.suppress(AssertionError):
            self.unmount()
        subprocess.run(["umount", "-l", str(self.at)], check=False, capture_output=True)


@functools.cache
def no_disks() -> str:
    """Why there can be none here; empty when there can. Tried once."""
    if os.geteuid() != 0:
        return "a mount needs root"
    for tool in ("mkfs.ext4", "mount", "umount", "fsfreeze"):
        if not shutil.which(tool):
            return f"there is no {tool}"
    with tempfile.TemporaryDirectory() as top:
        at = Path(top, "at")
        at.mkdir()
        try:
            disk = Disk(Path(top, "image"), at, size=8 << 20)
        except AssertionError as error:
            return f"no loop device can be mounted here: {str(error)[:200]}"
        try:
            disk.cut()
        except OSError as error:
            return f"this ext4 can not be shut down: {error.strerror}"
        finally:
            disk.remove()
    return ""


class Memory:
    """A tmpfs over the directory `at`, with everything that was in it. It can be made too small, and large again."""

    SIZE, INODES = 8 << 20, 4096

    def __init__(self, at: Path):
        self.at = at
        with tempfile.TemporaryDirectory() as aside:
            command("cp", "-a", f"{at}/.", aside)
            command("mount", "-t", "tmpfs", "-o", f"size={self.SIZE},nr_inodes={self.INODES}", "convsync-test", at)
            command("cp", "-a", f"{aside}/.", at)

    def remount(self, how: str) -> None:
        command("mount", "-o", f"remount,{how}", self.at)

    def no_bytes(self) -> None:
        found = os.statvfs(self.at)
        self.remount(f"size={(found.f_blocks - found.f_bfree) * found.f_frsize}")

    def no_inodes(self) -> None:
        found = os.statvfs(self.at)
        self.remount(f"nr_inodes={found.f_files - found.f_ffree}")

    def no_writing(self) -> None:
        self.remount("ro")

    def mend(self) -> None:
        self.remount(f"rw,size={self.SIZE},nr_inodes={self.INODES}")

    def remove(self) -> None:
        subprocess.run(["umount", "-l", str(self.at)], check=False, capture_output=True)
