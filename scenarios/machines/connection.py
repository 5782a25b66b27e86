"""How an engine reaches a host: bytes there, bytes back. Ours are a process' pipes (ssh) and an actor of Ray."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

ENDING_S = 30.0
"""For a host to end its nodes and to remove its folder, once nobody is there."""

ALIVE_S = 15
"""Between two questions of ssh whether the machine is there; after three without an answer it is lost."""

READ_BYTES_MAX = 4 << 20
"""At a time."""

PROGRAM = "scenarios.machines.host"


class Gone(Exception):
    """The host is no longer there; says what is known of it."""


@dataclass(frozen=True, slots=True)
class Place:
    """One machine."""

    name: str
    """As people call it."""
    address: str
    """Where other machines find its peers: a name or an IP address, without a port."""


class Connection(ABC):
    """Bytes to and from one host.

    Nothing here waits: a host that is busy saying something hears nothing meanwhile, and the other way round.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._unsent = bytearray()

    def write(self, data: bytes) -> None:
        """Send: now, or with the next reads. Raises `Gone`."""
        self._unsent += data
        self._send()

    def read(self) -> bytes:
        """Return what is there. Raises `Gone`."""
        self._send()
        return self._receive()

    @abstractmethod
    def _send(self) -> None:
        """Send what goes of `_unsent`. Raises `Gone`."""

    @abstractmethod
    def _receive(self) -> bytes:
        """Return what is there. Raises `Gone`."""

    @abstractmethod
    def close(self) -> None:
        """Let the host find that nobody is there: it ends its nodes."""


class Pipes(Connection):
    """A host that is started by a command here, such as ssh, and hears and speaks through its pipes.

    Args:
        place: the machine.
        command: what starts it.
    """

    def __init__(self, place: Place, command: Sequence[str]) -> None:
        super().__init__(place)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (a pipe that nobody reads would stop it)
        # In a session of its own: Ctrl-C is for the engine.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._output = self._process.stdout.fileno()
        assert self._process.stdin is not None
        self._input = self._process.stdin.fileno()
        for descriptor in (self._input, self._output):
            os.set_blocking(descriptor, False)

    def _send(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: os.write(self._input, self._unsent)]
        except BlockingIOError:
            return
        except BrokenPipeError:
            raise Gone(self._last_words()) from None

    def _receive(self) -> bytes:
        try:
            read = os.read(self._output, READ_BYTES_MAX)
        except BlockingIOError:
            return b""
        if not read:
            raise Gone(self._last_words())
        return read

    def close(self) -> None:
        """See `Connection`."""
        with contextlib.suppress(BrokenPipeError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        assert self._process.stdout is not None
        self._process.stdout.close()
        try:
            self._process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read()[-10_000:].decode(errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "it says nothing")


def by_ssh(place: Place, target: str, python: str) -> Pipes:
    """Return a host that plain ssh starts, as the user would: keys and settings are those of ~/.ssh."""
    # BatchMode: a question for a password would wait for ever, and stand between the two programs. ServerAlive: so
    # would a connection to a machine that has lost its power.
    options = [
        "-o",
        "BatchMode=yes",
        "-o",
        f"ServerAliveInterval={ALIVE_S}",
        "-o",
        "ServerAliveCountMax=3",
        "-T",
    ]
    return Pipes(place, ["ssh", *options, "--", target, f"exec {shlex.quote(python)} -m {PROGRAM}"])
