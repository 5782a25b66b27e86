"""Decoding the model that is coming, as far as it has come, in a worker thread beside reading.

Nothing of it is anybody's before the whole message has come and was found in order: one that ends before, or goes on
otherwise than it began, leaves nothing behind. One model at a time, in memory that it would have taken in the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import trio

from gossip.wire.codecs.base import Codec, blamed_on_the_sender
from gossip.wire.codecs.decoding import Decoding
from gossip.wire.documents import Document
from gossip.wire.frames import Coming
from gossip.wire.tensors import WireTensor

STEP_BYTES = 1024 * 1024
"""Decoded in one go: some milliseconds of work, beside which handing it to a thread costs little."""

By: TypeAlias = Callable[[Document], tuple[Codec, int] | None]
"""Tells the codec and the number of numbers of a model that is to be decoded as it comes; None: it is not."""


class _Begun:
    """One model. What its thread does to it does nothing to the next one."""

    def __init__(self, coming: Coming, by: tuple[Codec, int] | None) -> None:
        self.coming = coming
        self.by = by
        self.reached = coming.missing
        """What was missing when a thread last went on."""
        self._decoding: Decoding | None = None

    def advance(self) -> None:
        """In a thread: decode what has come."""
        assert self.by is not None
        codec, elements = self.by
        with blamed_on_the_sender():
            if self._decoding is None:
                self._decoding = codec.decoding(self.coming.tensors, elements)
            if self._decoding is None:
                self.by = None
            else:
                self._decoding.advance(self.reached)

    def finish(self, codec: Codec, elements: int) -> Any:
        """In a thread: return what the codec makes of all."""
        if self._decoding is None:
            return codec.read(self.coming.tensors, elements)
        return codec.read_on(self._decoding, elements)


class Ahead:
    """What is decoded of one connection's models before they are whole."""

    def __init__(self, by: By) -> None:
        self._by = by
        self._begun: _Begun | None = None
        self._more = trio.Event()
        self._thread = trio.Lock()
        """Held while a thread decodes."""

    def note(self, coming: Coming) -> None:
        """Note that some, or more, of a model has come."""
        begun = self._begun
        if begun is None or begun.coming is not coming:
            begun = self._begun = _Begun(coming, self._by(coming.document))
        if begun.by is not None and begun.reached - coming.missing >= STEP_BYTES:
            self._more.set()

    def forget(self) -> None:
        """Let go of the model that was coming."""
        self._begun = None

    async def run(self) -> None:
        """Decode what comes, as long as the connection lives. Raises `PeerError` for what no encoder writes."""
        while True:
            await self._more.wait()
            self._more = trio.Event()
            await self._go_on()

    async def _go_on(self) -> None:
        async with self._thread:
            begun = self._begun
            if begun is not None and begun.by is not None:
                begun.reached = begun.coming.missing
                await trio.to_thread.run_sync(begun.advance)

    async def read(self, codec: Codec, tensors: tuple[WireTensor, ...], elements: int) -> Any:
        """Return what `codec` makes of a whole message, some of which may be decoded already.

        Raises:
            PeerError: "garbage".
        """
        async with self._thread:
            begun = self._begun
            self._begun = None
            if begun is None or begun.coming.tensors is not tensors:
                return await trio.to_thread.run_sync(codec.read, tensors, elements)
            return await trio.to_thread.run_sync(begun.finish, codec, elements)
