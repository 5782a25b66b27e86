"""The seam of codecs: a model's learned vector becomes one or more tensors, and a vector again at the receiver."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, NamedTuple

import torch

from gossip import plugins
from gossip.draws import Draws
from gossip.errors import PeerError, ProtocolMisuse
from gossip.partial import Partial, Received
from gossip.protocols.base import Part
from gossip.stages import Stage, State
from gossip.wire.codecs.decoding import Decoding
from gossip.wire.codecs.settings import CODECS
from gossip.wire.memory import MemoryPool
from gossip.wire.tensors import PartSpecs, TensorSpec, WireTensor


class Coded(NamedTuple):
    """What receivers get of n models."""

    values: torch.Tensor
    """(n, L); zeros for what does not come."""
    there: torch.Tensor | None
    """(n, L) bool, which numbers come; None: all."""


class Copy(NamedTuple):
    """What the messages on a link add up to, at its receiver."""

    number: int
    """Of the last one."""
    vector: torch.Tensor
    """(L,)."""


@contextmanager
def blamed_on_the_sender() -> Iterator[None]:
    """Make a peer's offence of whatever a codec does with bytes that no encoder wrote."""
    try:
        yield
    except PeerError:
        raise
    except (Exception, SystemExit) as failure:
        raise PeerError(
            "garbage", f"a model that cannot be decoded: {plugins.one_line(failure)}"
        ) from failure


def _checked(received: object, elements: int) -> Received:
    if isinstance(received, Partial):
        return received
    if (
        not isinstance(received, torch.Tensor)
        or received.shape != (elements,)
        or received.dtype != torch.float32
    ):
        raise PeerError("garbage", f"a model that is decoded to no vector of {elements} numbers")
    return received


class Codec(Stage):
    """Turns a vector of `elements` numbers into tensors and back. Both sides know how many there are, hence the specs.

    Args:
        settings: of `[codec]`.
    """

    exact: ClassVar[bool] = False
    """``decode(encode(x))`` is x: then nothing is coded where nothing must travel."""
    reference: ClassVar[Literal["none", "own", "link"]] = "none"
    """What a receiver must hold to use what comes: nothing, a model of its own that it completes, or what the messages
    before on the same link add up to."""
    instant: ClassVar[bool] = False
    """Encoding and decoding take no time worth a worker thread."""
    for_coded: MemoryPool | None = None
    """Where tensors may lie; None: in memory of their own."""
    for_decoded: MemoryPool | None = None
    """The same of vectors."""

    def __init__(self, settings: Any = None) -> None:
        self.settings = settings

    @property
    def name(self) -> str:
        """What messages call it: its kind, of a user's own the class, which is never taken for one of ours."""
        kind = getattr(self.settings, "kind", "")
        own = type(self).__name__
        return kind if kind in CODECS else f"own-{own}" if own in CODECS else own

    @property
    def own_coded(self) -> bool:
        """Whether merges mix what receivers hold of the own model with theirs, and add what came of that to the own."""
        return getattr(self.settings, "own", "exact") == "coded"

    @abc.abstractmethod
    def specs(self, elements: int) -> tuple[TensorSpec, ...]:
        """Return what `elements` numbers become; fixed for ever, the receiver refuses everything else."""

    @abc.abstractmethod
    def encode(self, vector: torch.Tensor, draws: Draws) -> tuple[WireTensor, ...]:
        """Return the tensors for `vector` (float32, (elements,)); equal vectors and draws give equal bytes."""

    @abc.abstractmethod
    def decode(self, tensors: Sequence[WireTensor]) -> torch.Tensor:
        """Return the vector (float32, (elements,)); the tensors have the agreed specs.

        Raises:
            PeerError: "garbage", for bytes that no encoder writes.
        """

    def decode_as(self, tensors: Sequence[WireTensor], elements: int) -> torch.Tensor:
        """Return what `decode` does. To be overridden where tensors do not tell how many `elements` they hold."""
        return self.decode(tensors)

    def read(self, tensors: Sequence[WireTensor], elements: int) -> Received:
        """Return what is made of a peer's tensors: what can be a vector of `elements` numbers, or nothing is let in.

        Raises:
            PeerError: "garbage". Whatever a codec does with bytes that no encoder wrote, it is the sender's fault.
        """
        with blamed_on_the_sender():
            received = self.received(tensors, elements)
        return _checked(received, elements)

    def received(self, tensors: Sequence[WireTensor], elements: int) -> Received:
        """Return what `read` is to check."""
        return self.decode_as(tensors, elements)

    def decoding(self, tensors: Sequence[WireTensor], elements: int) -> Decoding | None:
        """Return what decodes a model whose tensors are being filled, first to last; None: it wants all of them.

        To be overridden, together with `decode_as`, where a model is long in coming and its beginning can be decoded.
        """
        return None

    def use_memory(self, *, coded: MemoryPool, decoded: MemoryPool) -> None:
        """Use pools' memory from here on, where a codec has a use for it.

        Args:
            coded: for what vectors become.
            decoded: for what vectors are made of it.
        """
        self.for_coded, self.for_decoded = coded, decoded

    def read_on(self, decoding: Decoding, elements: int) -> Received:
        """Return what `read` does, of a model that was decoded while it came.

        Raises:
            PeerError: "garbage".
        """
        with blamed_on_the_sender():
            vector = decoding.finish()
        return _checked(vector, elements)

    def coded(self, vectors: torch.Tensor, draws: Sequence[Draws]) -> torch.Tensor:
        """Return what receivers will hold of each of `vectors` (n, elements), to the bit."""
        rows = zip(vectors, draws, strict=True)
        elements = vectors.shape[1]
        held = [self.decode_as(self.encode(row.cpu(), drawn), elements) for row, drawn in rows]
        return torch.stack(held).to(vectors.device)

    def write(
        self, vector: torch.Tensor, rows: State, draws: Draws, *, number: int
    ) -> tuple[tuple[WireTensor, ...], State]:
        """Return the tensors of the sender's model message `number` (from 0), and what it remembers then.

        `rows` may be written over, here and below.
        """
        return self.encode(vector, draws), rows

    def held(
        self, vectors: torch.Tensor, rows: State, draws: Sequence[Draws], *, numbers: Sequence[int]
    ) -> tuple[Coded, State]:
        """Return what receivers get of each of `vectors` (n, L), and what the senders remember then."""
        return Coded(self.coded(vectors, draws), None), rows

    def told_whole(self, vectors: torch.Tensor, rows: State, *, numbers: Sequence[int]) -> State:
        """Return what senders remember once all of `vectors` (n, L) has gone to all that are sent this message."""
        return rows


class Referring(Codec):
    """What it sends hangs on what was sent before, and what came on what a receiver holds: no vector has a code."""

    def encode(self, vector: torch.Tensor, draws: Draws) -> tuple[WireTensor, ...]:
        """Raise: see `write`."""
        raise ProtocolMisuse(f"what {self.name} sends of a model hangs on what it sent before")

    def decode(self, tensors: Sequence[WireTensor]) -> torch.Tensor:
        """Raise: see `read`."""
        raise ProtocolMisuse(f"what comes by {self.name} is no whole model")

    @abc.abstractmethod
    def received(self, tensors: Sequence[WireTensor], elements: int) -> Received:
        """Return what has come."""

    @abc.abstractmethod
    def write(
        self, vector: torch.Tensor, rows: State, draws: Draws, *, number: int
    ) -> tuple[tuple[WireTensor, ...], State]:
        """Return the tensors of message `number`, and what the sender remembers then."""

    @abc.abstractmethod
    def held(
        self, vectors: torch.Tensor, rows: State, draws: Sequence[Draws], *, numbers: Sequence[int]
    ) -> tuple[Coded, State]:
        """Return what receivers get of each of `vectors` (n, L), and what the senders remember then."""

    @abc.abstractmethod
    def told_whole(self, vectors: torch.Tensor, rows: State, *, numbers: Sequence[int]) -> State:
        """Return what senders remember once all of `vectors` (n, L) has gone out."""


class Linked(Referring):
    """Both ends of a link hold what its messages add up to, or it begins anew."""

    reference: ClassVar[Literal["none", "own", "link"]] = "link"
    rate: float = 1.0
    """By how much of what mixing changes of the own copy the own model moves."""

    @abc.abstractmethod
    def anew_specs(self, elements: int) -> tuple[TensorSpec, ...]:
        """Return the tensors of a message by which a link begins anew."""

    @abc.abstractmethod
    def anew(self, rows: State, *, number: int) -> tuple[WireTensor, ...]:
        """Return the tensors by which a link begins anew, as of message `number`."""

    def follow(self, copy: Copy | None, tensors: Sequence[WireTensor], elements: int) -> Copy | None:
        """Return what a link's messages add up to with this one; None: it does not follow `copy`, the last.

        Raises:
            PeerError: "garbage".
        """
        with blamed_on_the_sender():
            return self._follow(copy, tensors, elements)

    def received(self, tensors: Sequence[WireTensor], elements: int) -> Received:
        """Raise: see `follow`."""
        raise ProtocolMisuse(f"what comes by {self.name} follows what came before")

    @abc.abstractmethod
    def _follow(self, copy: Copy | None, tensors: Sequence[WireTensor], elements: int) -> Copy | None:
        """Do what `follow` says."""


def anew_specs(codec: Codec, elements: int) -> tuple[TensorSpec, ...]:
    """Return the tensors of a message by which a link begins anew; (): none does."""
    return codec.anew_specs(elements) if isinstance(codec, Linked) else ()


def part_specs(codec: Codec, learned: int) -> PartSpecs:
    """Return what tells the tensors of a part of a model of `learned` parameters; `ValueError` for no part of it."""

    def specs(part: Part) -> tuple[TensorSpec, ...]:
        start, stop = part.bounds(learned)
        return codec.specs(stop - start)

    return specs
