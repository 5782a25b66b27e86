"""Network namespaces without names: each lives as long as somebody has it open, so nothing has to be tidied up.

A namespace that `ip netns` made outlives a run that was killed. One that was unshared is gone with its last descriptor
and its last process, and takes its interfaces with it, whatever ended them. Linux only.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

CLONE_NEWNET = 0x4000_0000
COMMAND_TIMEOUT_S = 30.0

T = TypeVar("T")


def new_namespace() -> int:
    """Return the descriptor of a new network namespace.

    Raises:
        OSError: not allowed.
    """

    def make() -> int:
        _call("unshare", CLONE_NEWNET)
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    return _in_thread(make)


def path_of(descriptor: int) -> str:
    """Return a path by which this process' children, and whatever they start, find a namespace that is open here."""
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def enter(path: str) -> None:
    """Move the calling thread, and what it starts, into a namespace. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("setns", descriptor, CLONE_NEWNET)
    finally:
        os.close(descriptor)


def run_inside(descriptor: int, command: Sequence[str], *, lines: Sequence[str] = ()) -> None:
    """Run a command in a namespace, with `lines` as its standard input.

    Raises:
        OSError: it cannot be run. subprocess.SubprocessError: it failed, or took too long.
    """

    def run() -> None:
        _call("setns", descriptor, CLONE_NEWNET)
        subprocess.run(
            command,
            input="".join(f"{line}\n" for line in lines),
            check=True,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            start_new_session=True,  # Ctrl-C is for the engine
        )

    _in_thread(run)


def _call(function: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _in_thread(work: Callable[[], T]) -> T:
    """Do `work` in a thread of its own: a thread's namespace is its own affair, and that of what it starts."""
    results: list[T] = []
    errors: list[BaseException] = []

    def do() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=do)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
