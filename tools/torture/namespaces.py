"""Machines that can be parted: network namespaces in two halves, each half on a bridge, and one cable between them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

NET = "10.213.77"


class Halves:
    """One namespace per peer, the first half of them on one bridge, the others on another; a context manager.

    Needs root and the `ip` command. Nothing outside these namespaces is touched: the bridges live in one of their own.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self._mark = f"gt{os.getpid()}"
        self._hub = f"{self._mark}-hub"
        self.addresses = {name: f"{NET}.{number}" for number, name in enumerate(self.names, start=1)}

    @staticmethod
    def possible() -> bool:
        """Return whether namespaces can be made here."""
        try:
            with Halves(["a", "b"]):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False

    def namespace(self, name: str) -> str:
        """Return the namespace of a peer."""
        return f"{self._mark}-{name}"

    def __enter__(self) -> Halves:
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _build(self) -> None:
        _ip("netns", "add", self._hub)
        for bridge in ("left", "right"):
            _ip("-n", self._hub, "link", "add", bridge, "type", "bridge")
            _ip("-n", self._hub, "link", "set", bridge, "up")
        _ip("-n", self._hub, "link", "add", "cable-l", "type", "veth", "peer", "name", "cable-r")
        for cable, bridge in (("cable-l", "left"), ("cable-r", "right")):
            _ip("-n", self._hub, "link", "set", cable, "master", bridge, "up")
        for number, name in enumerate(self.names):
            inside = self.namespace(name)
            _ip("netns", "add", inside)
            _ip("-n", inside, "link", "set", "lo", "up")
            _ip(
                "-n",
                self._hub,
                "link",
                "add",
                f"p{number}",
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                inside,
            )
            bridge = "left" if number < len(self.names) / 2 else "right"
            _ip("-n", self._hub, "link", "set", f"p{number}", "master", bridge, "up")
            _ip("-n", inside, "addr", "add", f"{self.addresses[name]}/24", "dev", "eth0")
            _ip("-n", inside, "link", "set", "eth0", "up")

    def part(self) -> None:
        """Pull the cable."""
        _ip("-n", self._hub, "link", "set", "cable-l", "down")

    def heal(self) -> None:
        """Put the cable back."""
        _ip("-n", self._hub, "link", "set", "cable-l", "up")

    def __exit__(self, *_: object) -> None:
        for inside in (*(self.namespace(name) for name in self.names), self._hub):
            subprocess.run(["ip", "netns", "del", inside], capture_output=True, timeout=10, check=False)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)
