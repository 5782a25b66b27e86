"""Links between peers that can be slow, cut or dead: a TCP proxy for each ordered pair.

Peer i reads a peers file of its own, in which j's address is the proxy's of (i, j). A thread with an event loop of its
own passes the bytes on, as the link's mode says.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from arena import Arena

PIECE_BYTES = 64 * 1024
PASS, DRIP, HOLD = "pass", "drip", "hold"
"""All at once; a byte at a time; nothing at all, and nobody is told (as a network does that is parted)."""
DRIP_S = 0.005
"""Between two bytes of a dripping link: 200 bytes a second."""


class Link:
    """The way from one peer to another, and back on the same connections."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.mode = PASS
        self.address = ("", 0)
        self._open: set[asyncio.StreamWriter] = set()

    async def listen(self) -> None:
        """Begin to take connections, at a free port."""
        server = await asyncio.start_server(self._meet, "127.0.0.1", 0)
        self.address = server.sockets[0].getsockname()[:2]

    def cut(self) -> None:
        """End the connections that there are; new ones are taken."""
        for writer in self._open:
            writer.transport.abort()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            onward = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, onward[1]}
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(self._pass_on(reader, onward[1]), self._pass_on(onward[0], writer))
        self._open -= {writer, onward[1]}

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(PIECE_BYTES):
                await self._say(data, writer)
            writer.write_eof()
        if writer.transport.is_closing():
            return
        with contextlib.suppress(OSError):
            await writer.drain()

    async def _say(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        sent = 0
        while sent < len(data):
            while self.mode == HOLD:
                await asyncio.sleep(0.05)
            piece = data[sent : sent + 1] if self.mode == DRIP else data[sent:]
            if self.mode == DRIP:
                await asyncio.sleep(DRIP_S)
            writer.write(piece)
            await writer.drain()
            sent += len(piece)


class Links:
    """The links between all peers of an arena, in a thread; a context manager."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._links = {(a, b): Link(arena.peers[b].port) for a in arena.peers for b in arena.peers if a != b}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Links:
        self._thread.start()
        for link in self._links.values():
            asyncio.run_coroutine_threadsafe(link.listen(), self._loop).result(5)
        return self

    def __exit__(self, *_: object) -> None:
        self.cut(self._links)
        asyncio.run_coroutine_threadsafe(_end_all(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def peers_file(self, name: str) -> Path:
        """Write and return the peers file that a peer is to read."""
        lines = []
        for other, line in self._arena.lines.items():
            fields = line.split()
            if other != name and (name, other) in self._links:
                fields[1] = "{}:{}".format(*self._links[name, other].address)
            lines.append("  ".join(fields))
        path = self._arena.folder / f"peers-{name}.txt"
        self._arena.write_peers(lines, path)
        return path

    def of(self, name: str) -> list[tuple[str, str]]:
        """Return the links from and to a peer."""
        return [pair for pair in self._links if name in pair]

    def between(self, some: Sequence[str], others: Sequence[str]) -> list[tuple[str, str]]:
        """Return the links between two groups, both ways."""
        return [(a, b) for a, b in self._links if (a in some) != (b in some) and {a, b} <= {*some, *others}]

    def set(self, pairs: Iterable[tuple[str, str]], mode: str) -> None:
        """Change how links pass bytes on."""
        for pair in pairs:
            self._links[pair].mode = mode

    def cut(self, pairs: Iterable[tuple[str, str]]) -> None:
        """End the connections over these links."""
        for pair in list(pairs):
            self._loop.call_soon_threadsafe(self._links[pair].cut)


async def _end_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
