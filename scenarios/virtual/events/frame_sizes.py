"""How many bytes a message takes on the wire, told by the real codec; without building a tensor, where that can be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import TypeAlias

from gossip.protocols.base import Message, PeerId
from gossip.wire.codecs.base import Codec, anew_specs, part_specs
from gossip.wire.documents import Envelope
from gossip.wire.frames import FrameWriter, writer
from gossip.wire.tensors import TensorSpec

KNOWN_MAX = 100_000

_Sender: TypeAlias = tuple[int, tuple[int, ...] | None, int]
"""What of a sender decides about sizes: the length of its name, the classes that it declares, and its chunks'."""


class FrameSizes:
    """Sizes as `gossip.net` would count them; the sender's name is part of every message."""

    def __init__(
        self,
        names: Sequence[PeerId],
        *,
        run_id: str,
        space_id: str,
        codec: Codec,
        learned_size: int,
        chunk_bytes: int | Sequence[int],
        declared: Mapping[PeerId, Collection[int]] | None = None,
        specs_sent: Callable[[int], Sequence[TensorSpec]] | None = None,
    ) -> None:
        """Make what tells sizes.

        Args:
            names: of the peers.
            run_id: of the run.
            space_id: of its models.
            codec: of its models.
            learned_size: how many of a model's numbers travel.
            chunk_bytes: of all peers, or of each.
            declared: the classes that each declares, where they do.
            specs_sent: returns the tensors of what a peer has just sent, where the codec does not say beforehand.
        """
        self._specs_sent = specs_sent
        specs = codec.specs(learned_size)
        chunks = [chunk_bytes] * len(names) if isinstance(chunk_bytes, int) else chunk_bytes
        # A document's size depends on the length of its sender's name, not on the name.
        self._senders: list[_Sender] = [
            (len(name), tuple(sorted(declared[name])) if declared else None, chunk)
            for name, chunk in zip(names, chunks, strict=True)
        ]
        self._writers: dict[_Sender, FrameWriter] = {
            (length, classes, chunk): writer(
                Envelope(run_id, space_id, "x" * length),
                codec.name,
                specs,
                part_specs=part_specs(codec, learned_size),
                learned=learned_size,
                anew=anew_specs(codec, learned_size),
                declared=classes,
                chunk_bytes=chunk,
            )
            for length, classes, chunk in set(self._senders)
        }
        self._known: dict[tuple[object, ...], tuple[int, int]] = {}
        self._plain: dict[type, Callable[[Message], object]] = {}
        """What a message of some type says beside its model."""

    def __call__(self, sender: int, message: Message, *, whole: bool = False) -> tuple[int, int]:
        """Return (bytes of all frames, bytes of tensors); of a model that goes whole, or as the codec has it."""
        who = self._senders[sender]
        if self._specs_sent is not None and message.carries_model and not message.whole:
            return self._writers[who].frame_bytes(message, self._specs_sent(sender))
        kind = type(message)
        plain = self._plain.get(kind)
        if plain is None:
            names = [field.name for field in fields(message) if field.name != "model"]
            plain = self._plain[kind] = attrgetter(*names) if names else lambda message: None
        key = (who, kind, whole, plain(message))
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            known = self._known[key] = self._writers[who].frame_bytes(message, whole=whole)
        return known
