"""WHEN and WITH WHOM: sans-I/O state machines, free of torch, trio, clocks and sockets."""

from gossip.protocols.base import (
    Context,
    Contribution,
    FinishedMessage,
    GossipStep,
    Message,
    MessageRejected,
    ModelAdopted,
    ModelMessage,
    ModelSaved,
    Protocol,
    RoundCompleted,
)
from gossip.protocols.rounds import Rounds
from gossip.protocols.settings import PROTOCOLS, RoundsSettings

__all__ = [
    "PROTOCOLS",
    "Context",
    "Contribution",
    "FinishedMessage",
    "GossipStep",
    "Message",
    "MessageRejected",
    "ModelAdopted",
    "ModelMessage",
    "ModelSaved",
    "Protocol",
    "RoundCompleted",
    "Rounds",
    "RoundsSettings",
]
