"""Two Syncthing instances on the loopback interface, every outside service off."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import urllib.request
import xml.etree.ElementTree as ET
from typing import Any

from benchmarks.home import Failed
from benchmarks.peers.peer import Peer

KEY = "benchmark"
OFF = {
    "globalAnnounceEnabled": "false", "localAnnounceEnabled": "false", "relaysEnabled": "false", "natEnabled": "false",
    "startBrowser": "false", "urAccepted": "-1", "autoUpgradeIntervalH": "0", "crashReportingEnabled": "false",
    "progressUpdateIntervalS": "-1", "setLowPriority": "false", "reconnectionIntervalS": "1",
}  # fmt: skip


class Syncthing(Peer):
    """`fsWatcherDelayS = 1`, which is the least it takes."""

    name, label = "syncthing", "Syncthing x 2, delay 1 s"
    needs = ("syncthing",)

    def prepare(self) -> None:
        self._gui = {"a": _free_port(), "b": _free_port()}
        listen = {"a": _free_port(), "b": _free_port()}
        ids = {}
        for side, root in (("a", self.a), ("b", self.b)):
            home = f"{self.state}/{side}"
            os.makedirs(f"{root}/.stfolder", exist_ok=True)
            with open(f"{root}/.stignore", "w", encoding="utf-8") as file:
                file.write("*.tmp\n")
            self._run("generate", "--home", home, "--no-default-folder")
            ids[side] = self._run("--home", home, "--device-id").strip()
        for side, root in (("a", self.a), ("b", self.b)):
            self._configure(side, root, ids, listen)

    def _run(self, *argv: str) -> str:
        env = {"PATH": os.environ["PATH"], "HOME": self.state}
        ran = subprocess.run(["syncthing", *argv], env=env, capture_output=True, text=True, check=False, timeout=60)
        if ran.returncode:
            raise Failed(f"syncthing {argv[0]} ended with {ran.returncode}")
        return ran.stdout

    def _configure(self, side: str, root: str, ids: dict[str, str], listen: dict[str, int]) -> None:
        path = f"{self.state}/{side}/config.xml"
        document = ET.parse(path)
        config = document.getroot()
        options, gui = config.find("options"), config.find("gui")
        assert options is not None
        assert gui is not None
        for name, value in (OFF | {"listenAddress": f"tcp://127.0.0.1:{listen[side]}"}).items():
            _set(options, name, value)
        for name in ("globalAnnounceServer", "stunServer"):
            _set(options, name, "")
        _set(gui, "address", f"127.0.0.1:{self._gui[side]}")
        _set(gui, "apikey", KEY)
        for old in [*config.findall("device"), *config.findall("folder")]:
            config.remove(old)
        about = {"rescanIntervalS": "3600", "fsWatcherEnabled": "true", "fsWatcherDelayS": "1", "type": "sendreceive"}
        folder = ET.SubElement(config, "folder", {"id": "all", "label": "all", "path": root} | about)
        for name, device in ids.items():
            known = ET.SubElement(config, "device", {"id": device, "name": name, "compression": "never"})
            ET.SubElement(known, "address").text = f"tcp://127.0.0.1:{listen[name]}"
            ET.SubElement(folder, "device", {"id": device})
        document.write(path)

    def env(self) -> dict[str, str]:
        return {"STNOUPGRADE": "1"}

    def commands(self) -> list[list[str]]:
        serve = ["syncthing", "serve", "--no-browser", "--no-restart", "--logflags=0", "--home"]
        return [[*serve, f"{self.state}/{side}"] for side in "ab"]

    def ready(self) -> bool:
        """Both have scanned, are connected, and neither needs anything of the other."""
        try:
            seen = [self._get(side, "/rest/db/status?folder=all") for side in "ab"]
            linked = [self._get(side, "/rest/system/connections")["connections"].values() for side in "ab"]
        except (OSError, ValueError, KeyError):
            return False
        done = all(s["state"] == "idle" and not s["needTotalItems"] and s["localFiles"] for s in seen)
        counts = {s[key] for s in seen for key in ("globalFiles", "localFiles")}
        return done and len(counts) == 1 and all(any(c["connected"] for c in each) for each in linked)

    def _get(self, side: str, path: str) -> Any:
        asked = urllib.request.Request(f"http://127.0.0.1:{self._gui[side]}{path}", headers={"X-API-Key": KEY})
        with urllib.request.urlopen(asked, timeout=5) as answer:
            return json.load(answer)

    def stop(self) -> None:
        super().stop()
        for root in (self.a, self.b):
            shutil.rmtree(f"{root}/.stfolder", ignore_errors=True)
            if os.path.exists(f"{root}/.stignore"):
                os.unlink(f"{root}/.stignore")


def _set(parent: ET.Element, name: str, value: str) -> None:
    found = parent.find(name)
    if found is None:
        found = ET.SubElement(parent, name)
    found.text = value


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
