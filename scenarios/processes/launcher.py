"""The engine's side of the fork server: start nodes, signal them, hear of their ends, leave none behind."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from scenarios.errors import RunFailed

START_TIMEOUT_S = 120.0
"""For importing torch on a slow, cold disk."""

KILL_TIMEOUT_S = 10.0
"""For a killed process to be gone; only a broken disk or kernel needs longer."""

ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""As many processes as peers share the cores; threads in each would only fight. Also keeps imports free of threads."""


@dataclass(frozen=True, slots=True)
class Exit:
    """A node has ended. `code` is negative where a signal ended it."""

    name: str
    code: int


class Launcher:
    """Starts nodes through one fork server; a context manager that kills what is left at its end.

    The server sits in a session of its own, so that Ctrl-C in the terminal reaches the engine only.
    """

    def __init__(self, log: Path, *, fork: bool | None = None) -> None:
        self._log = log
        fork = sys.platform == "linux" if fork is None else fork
        environment = {**os.environ, **dict.fromkeys(ONE_THREAD, "1")}
        with log.open("wb") as stderr:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "scenarios.processes.fork_server", *(["--fork"] if fork else [])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment,
                start_new_session=True,
            )
        assert self._server.stdout is not None
        self._output = self._server.stdout.fileno()
        os.set_blocking(self._output, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output, selectors.EVENT_READ)
        self._pending = b""
        self.running: dict[str, int] = {}
        """Name -> process id, of the nodes that have not ended."""
        self._ready = False

    def __enter__(self) -> Launcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(
        self, name: str, argv: list[str], *, stdout: Path, stderr: Path, program: str = "gossip.cli"
    ) -> None:
        """Start ``gossip-node ARGV``, or the module `program` that has a function ``run(argv) -> exit code``, too.

        Raises:
            RunFailed: the server is gone.
        """
        self._wait_until_ready()
        self._order(
            {"start": name, "program": program, "argv": argv, "stdout": str(stdout), "stderr": str(stderr)}
        )
        self.running[name] = 0

    def signal(self, names: Iterable[str], number: signal.Signals) -> None:
        """Send a signal to those of the named nodes that still run."""
        self._order({"signal": int(number), "to": list(names)})

    def wait(self, timeout_s: float) -> list[Exit]:
        """Return the nodes that have ended, after at most `timeout_s`.

        Raises:
            RunFailed: the server is gone.
        """
        exits = []
        for message in self._listen(timeout_s):
            if "started" in message:
                if message["started"] in self.running:
                    self.running[message["started"]] = message["pid"]
            elif "exited" in message:
                self.running.pop(message["exited"], None)
                exits.append(Exit(message["exited"], message["code"]))
        return exits

    def stop(self, timeout_s: float) -> bool:
        """Ask every node to end, wait up to `timeout_s`, kill the rest; return whether all ended by themselves."""
        self.signal(list(self.running), signal.SIGTERM)
        if self._wait_for_end(timeout_s):
            return True
        self.signal(list(self.running), signal.SIGKILL)
        self._wait_for_end(KILL_TIMEOUT_S)
        return False

    def close(self) -> None:
        """Kill what is left and end the server."""
        self._selector.close()
        with contextlib.suppress(BrokenPipeError):
            assert self._server.stdin is not None
            self._server.stdin.close()
        try:
            self._server.wait(KILL_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait(KILL_TIMEOUT_S)
        assert self._server.stdout is not None
        self._server.stdout.close()

    def _wait_for_end(self, timeout_s: float) -> bool:
        deadline_s = time.monotonic() + timeout_s
        while self.running and (left_s := deadline_s - time.monotonic()) > 0:
            self.wait(left_s)
        return not self.running

    def _wait_until_ready(self) -> None:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not self._ready:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise RunFailed(
                    f"the process that starts nodes was not ready in {START_TIMEOUT_S:g} s; see {self._log}"
                )
            self._ready = any("ready" in message for message in self._listen(left_s))

    def _listen(self, timeout_s: float) -> list[dict[str, Any]]:
        if not self._selector.select(timeout_s):
            return []
        read = os.read(self._output, 1 << 20)
        if not read:
            raise RunFailed(
                f"the process that starts nodes has ended: {last_line(self._log)}; see {self._log}"
            )
        *lines, self._pending = (self._pending + read).split(b"\n")
        return [json.loads(line) for line in lines]

    def _order(self, order: dict[str, Any]) -> None:
        assert self._server.stdin is not None
        try:
            self._server.stdin.write(json.dumps(order).encode() + b"\n")
            self._server.stdin.flush()
        except BrokenPipeError:
            raise RunFailed(
                f"the process that starts nodes has ended: {last_line(self._log)}; see {self._log}"
            ) from None


def last_line(path: Path, default: str = "it says nothing") -> str:
    """Return the last line of a log that says something."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return default
    # Python frames the tracebacks of exception groups with these.
    said = (line.strip().strip("|+- ") for line in reversed(lines))
    return next((line for line in said if line), default)
