"""What leaves a node of its models, where that is not the model as it is: shaped by `[outgoing]`, coded by `[codec]`.

Both happen once per message, in the learning thread, in the order in which messages were sent: all receivers get equal
bytes, and what outgoing stage and codec remember is in order. Some receivers may get a message whole (`wire.wholes`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from gossip import plugins
from gossip.draws import Draws
from gossip.node.handles import Deferred, Pending
from gossip.protocols.base import GossipStep, Message, PeerId
from gossip.stages import PeerState
from gossip.wire.codecs.float32 import EXACTLY
from gossip.wire.wholes import Wholes

if TYPE_CHECKING:
    from torch import Tensor

    from gossip.learner import Learner
    from gossip.node.learning_thread import LearningThread
    from gossip.wire.codecs.base import Codec
    from gossip.wire.tensors import WireTensor

Tensors: TypeAlias = "tuple[WireTensor, ...]"


class _Making:
    """The tensors of one message."""

    def __init__(self, message: Message, *, number: int, whole: bool) -> None:
        self.message = message
        self.number = number
        self.whole = whole
        self.sent: dict[bool, Message] = {}
        """Whole or coded -> what is sent."""
        self.shaped: Tensor | None = None


class OutgoingModels:
    """Puts the tensors that travel, once they are computed, in place of models."""

    def __init__(self, *, codec: Codec, learner: Learner, thread: LearningThread) -> None:
        self._codec = codec
        self._learner = learner
        self._thread = thread
        self._latest: _Making | None = None
        self._refers = codec.reference != "none"
        self._wholes = Wholes()
        self._learned_size = learner.task.space.learned_size
        self._told = PeerState({"codec": codec}, learner.task.space)
        """What the codec remembers: of this process, whose first model goes whole."""

    def came(self, peer: PeerId) -> None:
        """Note that `peer` can be reached from now on."""
        self._wholes.came(peer)

    def coded(self, message: Message, peer: PeerId) -> Message:
        """Return the message as it is to be sent to `peer`; one that goes to many neighbours is coded once."""
        exact = self._codec.exact or (message.whole and not self._refers)
        if exact and not self._learner.shapes_outgoing:
            return message
        making = self._latest
        if making is None or making.message is not message:
            turn = self._wholes.turn(message)
            making = self._latest = _Making(message, number=turn.number, whole=self._refers and turn.whole)
        whole = message.whole or (self._refers and (self._wholes.alone(peer) or making.whole))
        sent = making.sent.get(whole)
        return self._make(making, whole=whole) if sent is None else sent

    def _make(self, making: _Making, *, whole: bool) -> Message:
        message = making.message
        pending: Pending[Tensors] = Pending()
        sent: Message = dataclasses.replace(message, model=pending)  # type: ignore[call-arg]
        making.sent[whole] = sent

        def done(tensors: Tensors) -> None:
            if self._latest is making:
                self._latest = None  # whoever keeps a message keeps its model
            pending.set(tensors)

        self._thread.submit(self._job(making, message.model, whole=whole), done)  # type: ignore[attr-defined]
        return sent

    def _job(self, making: _Making, model: Deferred, *, whole: bool) -> Callable[[], Tensors]:
        draws = Draws.of(making.message, seed=self._learner.task.seed, peer=self._learner.peer)
        piece = making.message.piece

        def job() -> Tensors:
            if making.shaped is None:
                making.shaped = self._learner.outgoing(model.vector[: self._learned_size], draws)
            vector = making.shaped
            if whole and piece is None:
                return self._whole(making, vector, draws)
            start, stop = (0, len(vector)) if piece is None else piece.bounds(len(vector))
            if whole:
                return EXACTLY.encode(vector[start:stop].clone(), draws)
            with plugins.blamed(self._codec, "[codec]"):
                tensors, rows = self._codec.write(
                    vector[start:stop], self._told.gather("codec", [0]), draws, number=making.number
                )
            self._told.scatter("codec", [0], rows)
            return tensors

        return job

    def _whole(self, making: _Making, vector: Tensor, draws: Draws) -> Tensors:
        if making.whole:
            rows = self._told.gather("codec", [0])
            rows = self._codec.told_whole(vector[None], rows, numbers=[making.number])
            self._told.scatter("codec", [0], rows)
        # Nobody is to train in memory that a transfer reads.
        return EXACTLY.encode(vector.clone(), draws)

    def own_coded(self, own: Tensor, at: GossipStep) -> Tensor | None:
        """Return what the others hold of `own` [P], with its slots that never travel; None: merges take it as it is.

        In the learning thread. It is coded again: equal models and draws give equal codes.
        """
        if not self._codec.own_coded or at.whole:
            return None
        task = self._learner.task
        start, stop = at.part.bounds(task.space.learned_size)
        draws = Draws.at(at, seed=task.seed, peer=self._learner.peer)
        public = own.clone()
        public[start:stop] = self._codec.coded(own[None, start:stop], [draws])[0]
        return public
