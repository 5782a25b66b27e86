"""What all connections of this peer share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gossip.net.settings import NetSettings
from gossip.net.upload import Upload
from gossip.protocols.base import Message, PeerId
from gossip.telemetry.accounting import Accounting
from gossip.wire.agreement import Agreement
from gossip.wire.codecs.base import Codec
from gossip.wire.memory import DECODED_BLOCKS_MAX, DECODED_BYTES_MAX, MemoryPool


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """One peer's side of every connection."""

    name: PeerId
    """As in the peers file."""
    agreement: Agreement
    """The run, the task and the model, as we hold them."""
    codec: Codec
    """What models are on the wire."""
    learned_size: int
    """L, the length of the vectors that travel."""
    settings: NetSettings
    """Deadlines and bounds."""
    accounting: Accounting
    """Where bytes, messages and rejections are counted."""
    instance: str
    """Random, new with every start of the process."""
    insecure: bool
    """No TLS, and everybody is who they say."""
    on_message: Callable[[PeerId, Message], None]
    """Called with every good message; a model is a float32 tensor [L] that nobody else holds, or a `Partial`."""
    unseen: Callable[[PeerId], object | None] = lambda _: None
    """Asked before a model is decoded: what stands for one of that peer that is not to be; None where it is."""
    declared: tuple[int, ...] | None = None
    """Own classes, which every model sent tells of where the run's merge rule wants to know."""
    on_declared: Callable[[PeerId, tuple[int, ...]], None] = lambda peer, classes: None
    """Called with the classes that came with a model, just before `on_message`."""
    on_lost: Callable[[PeerId], None] = lambda peer: None
    """Called when a peer did not get a model that was queued for it, or says that it could not use one."""
    pool: MemoryPool = field(default_factory=MemoryPool)
    """Where models are received, and coded."""
    decoded: MemoryPool = field(
        default_factory=lambda: MemoryPool(bytes_max=DECODED_BYTES_MAX, blocks_max=DECODED_BLOCKS_MAX)
    )
    """Where the codec may decode them."""
    upload: Upload | None = field(init=False)
    """What all connections may send together, as `settings` say; None: as much as they can."""

    def __post_init__(self) -> None:
        """Make what `settings` ask for, and lend the codec memory."""
        self.codec.use_memory(coded=self.pool, decoded=self.decoded)
        mbps = self.settings.upload_mbps_max
        object.__setattr__(self, "upload", None if mbps is None else Upload(mbps))

    def give_back(self) -> None:
        """Give the system memory that no model has come for."""
        self.pool.give_back()
        self.decoded.give_back()
