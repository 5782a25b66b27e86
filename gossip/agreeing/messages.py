"""What peers say to each other who agree on statistics."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar

from gossip.protocols.base import Message
from gossip.wire.messages import register

HAVE, SHARE, RESULT = 0, 1, 2
"""The steps: what each peer's table has, its masked numbers, the digest of what came out."""

_DOMAIN = b"gossip-node statistics: statement"


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class Statement(Message):
    """One part of what a peer says to all, passed on by everybody and signed by the one who said it."""

    kind: ClassVar[str] = "statistics"
    origin: str
    step: int
    began_us: int
    """When the origin's process began, by its own clock: of two that tell of themselves the later counts."""
    session: bytes
    """Of HAVE the origin's own random name; else what follows from everybody's HAVE."""
    part: int
    parts: int
    payload: bytes
    signature: bytes

    def signed(self, run_id: str) -> bytes:
        """Return what the signature is of."""
        digest = hashlib.blake2b(_DOMAIN, digest_size=32)
        numbers = (self.step, self.began_us, self.part, self.parts)
        for each in (
            run_id.encode(),
            self.origin.encode(),
            repr(numbers).encode(),
            self.session,
            self.payload,
        ):
            digest.update(len(each).to_bytes(4, "big") + each)
        return digest.digest()


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class MaskSeed(Message):
    """The sender's half of the mask that it shares with the receiver; nobody passes it on."""

    kind: ClassVar[str] = "statistics-seed"
    instance: bytes
    """The sender's random name, as in its HAVE: a seed of an earlier start is of no use."""
    seed: bytes


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class NothingMore(Message):
    """The sender has all it needs, or has found that nothing can come of it: nobody need wait for it."""

    kind: ClassVar[str] = "statistics-end"
