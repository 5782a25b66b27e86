"""`gossip-node status`: a Unix socket in the home that answers one JSON object per connection."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from gossip.errors import NetworkError
from gossip.telemetry.containment import Containment

SOCKET = "status.sock"
HIDDEN, SHORT = ".socket", "s"
"""Where it is made; this path is shorter than that."""

ANSWER_BYTES_MAX = 16 << 20
DEADLINE_S = 5.0
PATH_BYTES_MAX = 100
"""A Unix socket's path: 108 bytes on Linux, 104 on macOS, with the zero at its end."""

logger = logging.getLogger("gossip.node")


async def serve_status(
    home: Path, report: Callable[[], Mapping[str, Any]], contained: Containment, works: Callable[[], None]
) -> None:
    """Answer until cancelled; call `works` once asked can be. Only the owner of the home may ask (mode 0600).

    Raises:
        OSError: the socket cannot be made there.
    """
    path = home / SOCKET
    path.unlink(missing_ok=True)
    listening = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with listening:
        await _bind(listening, home)
        listening.listen(8)
        works()
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    connection, _ = await listening.accept()
                    nursery.start_soon(_answer, connection, report, contained)
        finally:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


async def _bind(listening: trio.socket.SocketType, home: Path) -> None:
    """Bind to the home's socket, which is the owner's alone from its first moment on.

    It is made in a folder that nobody else may enter. A umask for that moment would be one of all threads: what they
    make meanwhile, a folder of checkpoints say, would have a mode that shuts everybody out.
    """
    hidden = home / HIDDEN
    hidden.mkdir(mode=0o700, exist_ok=True)
    hidden.chmod(0o700)  # of a process that was killed here
    made = hidden / SHORT
    made.unlink(missing_ok=True)
    try:
        with short_path(home) as short:
            await listening.bind(str(short / HIDDEN / SHORT))
        made.chmod(0o600)
        made.rename(home / SOCKET)
    finally:
        made.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            hidden.rmdir()


async def _answer(
    connection: trio.socket.SocketType, report: Callable[[], Mapping[str, Any]], contained: Containment
) -> None:
    stream = trio.SocketStream(connection)
    try:
        with trio.move_on_after(DEADLINE_S), contained("status not put together"):
            answer = json.dumps(report()).encode() + b"\n"
            with contextlib.suppress(trio.BrokenResourceError):  # whoever asked has left
                await stream.send_all(answer)
    finally:
        await trio.aclose_forcefully(stream)


def ask_status(home: Path) -> dict[str, Any]:
    """Ask the node that runs in `home` (blocking, with a deadline).

    Raises:
        NetworkError: nothing answers there.
    """
    answer = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking, short_path(home) as short:
            asking.settimeout(DEADLINE_S)
            asking.connect(str(short / SOCKET))
            while piece := asking.recv(65536):
                answer += piece
                if len(answer) > ANSWER_BYTES_MAX:
                    raise NetworkError(f"--home {home}: the answer is longer than {ANSWER_BYTES_MAX} bytes")
    except OSError:
        raise NetworkError(f"--home {home}: no node is running there") from None
    return read_answer(home, answer)


def read_answer(home: Path, answer: bytes) -> dict[str, Any]:
    """Return what an answer says.

    Raises:
        NetworkError: a node did not say that.
    """
    try:
        status = json.loads(answer)
    except (ValueError, RecursionError):
        status = None
    if not isinstance(status, dict):
        # A node that dies says half of it; whoever else may listen there says anything.
        raise NetworkError(f"--home {home}: no node is running there")
    return status


@contextmanager
def short_path(home: Path) -> Iterator[Path]:
    """Give a folder with a long name a short one: the system takes Unix socket paths of about 100 bytes only."""
    if len(os.fsencode(home / SOCKET)) <= PATH_BYTES_MAX:
        yield home
        return
    with tempfile.TemporaryDirectory(prefix="gossip-") as folder:
        link = Path(folder) / "home"
        link.symlink_to(home.resolve(), target_is_directory=True)
        yield link
