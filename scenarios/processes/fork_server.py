"""A process that starts nodes and waits for them: ``python -m scenarios.processes.fork_server [--fork]``.

With ``--fork`` (Linux) it imports torch and the node once and forks every node from itself: 14 MB and 0.1 s each
instead of 146 MB and 2 s. Elsewhere a fork after such imports is unsafe, and nodes are started afresh.

`multiprocessing`'s forkserver does nearly this, but it runs the caller's main module again in every child, which
makes a plain script that calls `scenarios.run` start itself over and over.

Standard input: one JSON object per line, ``{"start": NAME, "program": MODULE, "argv": […], "stdout": PATH, "stderr":
PATH, "namespace": PATH or null}``, ``{"signal": NUMBER, "to": [NAME, …]}`` or, before the first node of a further run,
``{"log": PATH, "environment": {NAME: VALUE}, "folder": PATH}``, which make it what it would be had it been started with
them.
Standard output: ``{"ready": true}``,
``{"started": NAME, "pid": PID}``, ``{"exited": NAME, "code": CODE}`` (minus the signal's number where one ended it).
When standard input ends, the engine is gone: every node is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from gossip.telemetry.standard_error import queue_standard_error, run_and_leave
from scenarios.processes import namespaces

PRELOAD = (
    "torch",
    "torch.func",
    "trio",
    "safetensors.numpy",
    "numpy.ma",
    "numpy.random",
    "encodings.idna",
    "gossip.channels.prototypes",
    "gossip.cli",
    "gossip.inference.kept",
    "gossip.learner",
    "gossip.learning.task",
    "gossip.merging.average",
    "gossip.node.ledger",
    "gossip.node.node",
    "gossip.node.own_data",
    "gossip.node.running",
    "gossip.probing",
    "gossip.telemetry.loggers.none",
    "gossip.telemetry.logs",
)
"""What a node imports, some of it only when it runs. What cannot be imported is left to the node, whose error says
more."""

PR_SET_PDEATHSIG = 1
READ_BYTES = 65536


def main() -> None:
    """Serve until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    fork = "--fork" in sys.argv[1:]
    server = Server(_forked if fork else _spawned)
    if fork:
        _preload()
    server.serve()


class Server:
    """The nodes that are running, by name."""

    def __init__(self, start: Callable[[str, list[str], str, str, str | None], int]) -> None:
        self._start = start
        self._names: dict[int, str] = {}
        self._installed = list(sys.path)
        """Where modules are found whatever environment and working folder say."""
        for place in _places():
            if self._installed and self._installed[0] == place:
                del self._installed[0]
        self._read_end, self._write_end = (
            os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else _pipe()
        )

    def serve(self) -> None:
        """Take orders and report exits until standard input ends, then kill what is left."""
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        _say({"ready": True})
        pending = b""
        try:
            while True:
                readable, _, _ = select.select([0, self._read_end], [], [])
                if self._read_end in readable:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._read_end, READ_BYTES)
                self._reap()
                if 0 in readable:
                    read = os.read(0, READ_BYTES)
                    if not read:
                        return
                    *lines, pending = (pending + read).split(b"\n")
                    for line in lines:
                        self._obey(json.loads(line))
        finally:
            for pid in self._names:
                os.kill(pid, signal.SIGKILL)  # not reaped yet, so the number is still theirs

    def _obey(self, order: dict[str, Any]) -> None:
        if "start" in order:
            told = (order[key] for key in ("program", "argv", "stdout", "stderr", "namespace"))
            pid = self._start(*told)
            self._names[pid] = order["start"]
            _say({"started": order["start"], "pid": pid})
            return
        if "log" in order:
            self._begin_again(order["log"], order["environment"], order["folder"])
            return
        wanted = set(order["to"])
        for pid, name in self._names.items():
            if name in wanted:
                os.kill(pid, order["signal"])

    def _begin_again(self, log: str, environment: dict[str, str], folder: str) -> None:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(descriptor, 2)
        os.close(descriptor)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:] = [*_places(), *self._installed]
        importlib.invalidate_caches()

    def _reap(self) -> None:
        while self._names:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            name = self._names.pop(pid, None)
            if name is not None:
                _say({"exited": name, "code": os.waitstatus_to_exitcode(status)})


def _places() -> list[str]:
    """Return where ``python -m`` looks for modules first."""
    given = os.environ.get("PYTHONPATH")
    return [
        *([] if sys.flags.safe_path else [os.getcwd()]),
        *(os.path.abspath(place) for place in (given.split(os.pathsep) if given else ())),
    ]


def _pipe() -> tuple[int, int]:
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    os.set_blocking(write_end, False)
    return read_end, write_end


def _say(message: dict[str, Any]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


def _preload() -> None:
    for module in PRELOAD:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    threads = Path("/proc/self/task")
    if threads.exists() and len(list(threads.iterdir())) > 1:
        # A lock that another thread holds at the moment of the fork is never released in the child.
        sys.stderr.write("fork_server: an import started threads; forked nodes may hang\n")
    gc.collect()
    gc.freeze()  # else the first collection in each child writes to, and so copies, every page


def _forked(program: str, argv: list[str], stdout: str, stderr: str, namespace: str | None) -> int:
    server = os.getpid()

    def run() -> int:
        _become_a_process(stdout, stderr, server)
        if namespace is not None:
            namespaces.enter(namespace)
        return int(importlib.import_module(program).run(argv))

    pid = os.fork()
    if not pid:
        run_and_leave(run)
    return pid


def _become_a_process(stdout: str, stderr: str, server: int) -> None:
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        os._exit(1)  # the server died before the line above
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for descriptor, path in ((0, os.devnull), (1, stdout), (2, stderr)):
        opened = os.open(path, os.O_RDONLY if descriptor == 0 else flags, 0o644)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.closerange(3, 64)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    queue_standard_error()


def _spawned(program: str, argv: list[str], stdout: str, stderr: str, namespace: str | None) -> int:
    with open(stdout, "wb") as out, open(stderr, "wb") as err:
        # Reaped by number in the server's loop; the object would only do it a second time.
        process = subprocess.Popen(
            [sys.executable, "-m", program, *argv],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
            preexec_fn=None if namespace is None else partial(namespaces.enter, namespace),
        )
    _spawned_kept.append(process)
    return process.pid


_spawned_kept: list[subprocess.Popen[bytes]] = []


if __name__ == "__main__":
    main()
