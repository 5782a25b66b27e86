"""A real node that dies, slows down or sees its clock jump where it is told to.

The process is `gossip-node` itself; before it begins, the functions named in its orders are wrapped. So a kill falls
between two chosen instructions, which no signal from outside would hit in a thousand tries.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import json
import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class Orders:
    """What shall happen to one life of a node."""

    die: str = ""
    """A stage of `STAGES`; empty: it lives."""
    at: int = 1
    """The how-manieth time it gets there."""
    pace_s: float = 0.0
    """Each training takes so much longer: rounds of a length that does not hang on what else the machine does."""
    clock_jumps_s: tuple[float, ...] = ()
    """The wall clock jumps by the next of these every `jump_every_s`; the monotonic one does not."""
    jump_every_s: float = 2.0
    namespace: str = ""
    """A network namespace to live in."""
    count_tasks: bool = False
    """`status` also tells how many tasks the event loop has."""
    file_bytes_max: int = 0
    """No file gets longer (RLIMIT_FSIZE); writing more is an error, as on a full disk."""


def run(argv: list[str]) -> int:
    """Follow the orders in the first argument; the others are gossip-node's."""
    orders = Orders(**{key: _tuple(value) for key, value in json.loads(argv[0]).items()})
    if orders.namespace:
        _enter(orders.namespace)
    if orders.file_bytes_max:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (orders.file_bytes_max, orders.file_bytes_max))
    if orders.count_tasks:
        _wrap("gossip.node.node:Node.status", change=_with_tasks)
    if orders.pace_s:
        _wrap("gossip.learner:Learner.train", before=lambda *_: time.sleep(orders.pace_s))
    if orders.clock_jumps_s:
        _jump(orders.clock_jumps_s, orders.jump_every_s)
    if orders.die:
        STAGES[orders.die](_Countdown(orders.at))
    from gossip.cli import run as run_node

    return run_node(argv[1:])


class _Countdown:
    """Ends the process, at once and without a last word, when it has been called often enough."""

    def __init__(self, left: int) -> None:
        self._left = left

    def __call__(self) -> bool:
        """Return whether it is time; the caller then does what it does last."""
        self._left -= 1
        return self._left <= 0

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def _dies(target: str, *, after: bool = False) -> Callable[[_Countdown], None]:
    def arm(countdown: _Countdown) -> None:
        def reached(*_: Any) -> None:
            if countdown():
                countdown.die()

        _wrap(target, **{"after" if after else "before": reached})

    return arm


def _half_written(countdown: _Countdown) -> None:
    sync = os.fsync

    def fsync(file: Any) -> None:
        number = file if isinstance(file, int) else file.fileno()
        if _is_checkpoint(os.readlink(f"/proc/self/fd/{number}")) and countdown():
            os.ftruncate(number, os.fstat(number).st_size // 2)
            countdown.die()
        sync(file)

    os.fsync = fsync


def _written(countdown: _Countdown) -> None:
    sync = os.fsync

    def fsync(file: Any) -> None:
        number = file if isinstance(file, int) else file.fileno()
        sync(file)
        if _is_checkpoint(os.readlink(f"/proc/self/fd/{number}")) and countdown():
            countdown.die()

    os.fsync = fsync


def _renamed(countdown: _Countdown) -> None:
    replace = os.replace

    def replaced(source: Any, target: Any, **more: Any) -> None:
        replace(source, target, **more)
        if _is_checkpoint(os.fspath(target)) and countdown():
            countdown.die()

    os.replace = replaced  # type: ignore[assignment]


def _is_checkpoint(path: str) -> bool:
    return re.search(r"/checkpoints/\.?round-[^/]*$", path) is not None


STAGES: dict[str, Callable[[_Countdown], None]] = {
    "saving: half written": _half_written,
    "saving: written": _written,
    "saving: renamed": _renamed,
    "training": _dies("gossip.learner:Learner.train", after=True),
    "merging": _dies("gossip.learner:Learner.merge", after=True),
    "evaluating": _dies("gossip.learner:Learner.evaluate"),
    "handshake: TLS": _dies("gossip.net.stream:TlsStream.handshake"),
    "handshake: hello": _dies("gossip.net.connection:Connection.greet"),
    "handshake: welcome": _dies("gossip.net.connection:Connection.run"),
    "recording": _dies("gossip.storage.run_record:RunRecord.metrics", after=True),
}
"""Where a node can be told to die."""


def _wrap(
    target: str,
    *,
    before: Callable[..., object] = lambda *_: None,
    after: Callable[..., object] = lambda *_: None,
    change: Callable[[Any], Any] = lambda result: result,
) -> None:
    """Put something before and after a method, named as MODULE:CLASS.METHOD, or change its result."""
    module, _, path = target.partition(":")
    holder, _, name = path.partition(".")
    owner = getattr(importlib.import_module(module), holder)
    function = getattr(owner, name)

    @functools.wraps(function)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        before(*arguments)
        result = function(*arguments, **named)
        after(*arguments)
        return change(result)

    setattr(owner, name, wrapped)


def _with_tasks(status: Any) -> Any:
    import trio

    return {**status, "tasks": trio.lowlevel.current_statistics().tasks_living}


def _jump(jumps_s: tuple[float, ...], every_s: float) -> None:
    real, began = time.time, time.monotonic()
    time.time = lambda: real() + jumps_s[int((time.monotonic() - began) / every_s) % len(jumps_s)]


def _enter(namespace: str) -> None:
    file = os.open(f"/var/run/netns/{namespace}", os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(file, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {namespace}")
    finally:
        os.close(file)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
