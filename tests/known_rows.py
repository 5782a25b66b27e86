"""A world for tables of prototypes, in which a signature is a hash; and rows as their origins sign them."""

from __future__ import annotations

import hashlib

import numpy as np

from gossip.protocols.base import MessageRejected
from gossip.protocols.tables import Row, Shape, Table, TableMessage

SHAPE = Shape(run="run", classes=4, width=3)
PEERS = ("ann", "bob", "cid", "dot")


class World:
    """A context in which everybody is up, and messages are kept."""

    def __init__(self, peer="ann", peers=PEERS):
        self.peer, self.peers = peer, peers
        self.sent = []
        self.rejected = []
        self.verified = 0

    def sign(self, statement):
        return signature(self.peer, statement)

    def verify(self, peer, statement, signed):
        self.verified += 1
        return signed == signature(peer, statement)

    def is_up(self, peer):
        return True

    def send(self, peer, message):
        self.sent.append((peer, message))

    def emit(self, event):
        assert isinstance(event, MessageRejected)
        self.rejected.append(event.reason)


def signature(peer, statement):
    return hashlib.blake2b(peer.encode() + statement).digest()


def row(origin, label, samples, sums, *, version=1, shape=SHAPE):
    written = np.asarray(sums, dtype="<f4").tobytes()
    unsigned = Row(origin, label, version, samples, written, b"")
    return unsigned._replace(signature=signature(origin, shape.statement(unsigned)))


def table(own=(), *, state=(), world=None):
    """Return a table of somebody who has `own` samples, {class: (how many, sum)}, and has begun."""
    said = {
        label: (count, np.asarray(sums, dtype="<f4").tobytes()) for label, (count, sums) in dict(own).items()
    }
    made = Table(SHAPE, lambda peer: said, dict(state))
    made.begin(world or World())
    return made


def heard(made, world, *rows):
    made.heard(world, "bob", TableMessage(rows=rows))
