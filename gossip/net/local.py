"""What all connections of this peer share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gossip.net.settings import NetSettings
from gossip.protocols.base import Message, PeerId
from gossip.telemetry.accounting import Accounting
from gossip.wire.agreement import Agreement
from gossip.wire.codecs.base import Codec
from gossip.wire.memory import MemoryPool


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """One peer's side of every connection."""

    name: PeerId
    agreement: Agreement
    codec: Codec
    learned_size: int
    settings: NetSettings
    accounting: Accounting
    instance: str
    insecure: bool
    pool: MemoryPool
    unseen: Callable[[PeerId], object | None]
    """What stands for a model of that peer that is not even to be decoded; None where it is."""
    declared: tuple[int, ...] | None
    """Own classes, which every model sent tells of where the run's merge rule wants to know."""
    on_declared: Callable[[PeerId, tuple[int, ...]], None]
    on_message: Callable[[PeerId, Message], None]
