"""One counter for all worlds: bytes and messages by direction and type, before TLS records.

payload    tensor data
protocol   protocol messages with their framing, payload included
transport  hello, welcome, heartbeats, goodbye
total      protocol + transport
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any


class Traffic:
    """One direction."""

    __slots__ = ("bytes_by_type", "messages_by_type", "payload", "protocol", "transport")

    def __init__(self) -> None:
        self.payload = 0
        self.protocol = 0
        self.transport = 0
        self.bytes_by_type: Counter[str] = Counter()
        self.messages_by_type: Counter[str] = Counter()

    def count(
        self,
        kind: str,
        frame_bytes: int,
        *,
        payload_bytes: int = 0,
        transport: bool = False,
        messages: int = 1,
    ) -> None:
        """Count messages of type `kind` that took `frame_bytes` in all."""
        self.bytes_by_type[kind] += frame_bytes
        self.messages_by_type[kind] += messages
        if transport:
            self.transport += frame_bytes
        else:
            self.protocol += frame_bytes
            self.payload += payload_bytes

    @property
    def total(self) -> int:
        """All bytes of this direction."""
        return self.protocol + self.transport

    def add(self, other: Traffic) -> None:
        """Add another's counts to these."""
        self.payload += other.payload
        self.protocol += other.protocol
        self.transport += other.transport
        self.bytes_by_type.update(other.bytes_by_type)
        self.messages_by_type.update(other.messages_by_type)

    def as_dict(self) -> dict[str, Any]:
        """Return ``{"bytes": {payload, protocol, transport, total, by_type}, "messages": {by_type}}``."""
        return {
            "bytes": {
                "payload": self.payload,
                "protocol": self.protocol,
                "transport": self.transport,
                "total": self.total,
                "by_type": dict(sorted(self.bytes_by_type.items())),
            },
            "messages": {"by_type": {k: n for k, n in sorted(self.messages_by_type.items()) if n}},
        }

    def load(self, counts: Mapping[str, Any]) -> None:
        """Take over what `as_dict` gave, as after a resume."""
        self.payload = int(counts["bytes"]["payload"])
        self.protocol = int(counts["bytes"]["protocol"])
        self.transport = int(counts["bytes"]["transport"])
        self.bytes_by_type = Counter(counts["bytes"]["by_type"])
        self.messages_by_type = Counter(counts["messages"]["by_type"])


class Accounting:
    """One peer's counters."""

    __slots__ = ("dropped_messages", "received", "rejected_messages", "sent")

    def __init__(self) -> None:
        self.sent = Traffic()
        self.received = Traffic()
        self.rejected_messages: Counter[str] = Counter()
        """What a peer did wrong, by the reason of the `PeerError`."""
        self.dropped_messages: Counter[str] = Counter()
        """Our own messages that were not sent: replaced by a newer one, or the peer was down."""

    def reject(self, reason: str) -> None:
        """Count something received that was not used."""
        self.rejected_messages[reason] += 1

    def drop(self, reason: str) -> None:
        """Count something of ours that was not sent."""
        self.dropped_messages[reason] += 1

    def add(self, other: Accounting) -> None:
        """Add another peer's counts to these."""
        self.sent.add(other.sent)
        self.received.add(other.received)
        self.rejected_messages.update(other.rejected_messages)
        self.dropped_messages.update(other.dropped_messages)

    def as_dict(self) -> dict[str, Any]:
        """Return the sent `bytes` and `messages`, the same under `received`, rejections and drops by reason."""
        return {
            **self.sent.as_dict(),
            "received": self.received.as_dict(),
            "rejected_messages": dict(sorted(self.rejected_messages.items())),
            "dropped_messages": dict(sorted(self.dropped_messages.items())),
        }

    @classmethod
    def from_dict(cls, counts: Mapping[str, Any]) -> Accounting:
        """Return the counters that `as_dict` described."""
        accounting = cls()
        accounting.sent.load(counts)
        accounting.received.load(counts["received"])
        accounting.rejected_messages = Counter(counts["rejected_messages"])
        accounting.dropped_messages = Counter(counts["dropped_messages"])
        return accounting
