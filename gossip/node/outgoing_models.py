"""What leaves a node of its models, where that is not the model as it is: shaped by `[outgoing]`, coded by `[codec]`.

Both happen once per message, in the learning thread, in the order in which messages were sent: all receivers get equal
bytes, and what an outgoing stage remembers is in order.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from gossip import plugins
from gossip.draws import Draws
from gossip.node.handles import Deferred, Pending
from gossip.protocols.base import GossipStep, Message
from gossip.wire.codecs.float32 import EXACTLY

if TYPE_CHECKING:
    from torch import Tensor

    from gossip.learner import Learner
    from gossip.node.learning_thread import LearningThread
    from gossip.wire.codecs.base import Codec
    from gossip.wire.tensors import WireTensor


class OutgoingModels:
    """Puts the tensors that travel, once they are computed, in place of models."""

    def __init__(self, *, codec: Codec, learner: Learner, thread: LearningThread) -> None:
        self._codec = codec
        self._learner = learner
        self._thread = thread
        self._latest: tuple[Message, Message] | None = None

    def coded(self, message: Message) -> Message:
        """Return the message as it is to be sent; one that goes to many neighbours is coded once."""
        codec = EXACTLY if message.whole else self._codec
        if codec.exact and not self._learner.shapes_outgoing:
            return message
        if self._latest is not None and self._latest[0] is message:
            return self._latest[1]
        coded: Pending[tuple[WireTensor, ...]] = Pending()
        sent: Message = dataclasses.replace(message, model=coded)  # type: ignore[call-arg]
        self._latest = message, sent
        model: Deferred = message.model  # type: ignore[attr-defined]
        draws = Draws.of(message, seed=self._learner.task.seed, peer=self._learner.peer)
        piece = message.piece

        def job() -> tuple[WireTensor, ...]:
            vector = self._learner.outgoing(model.vector[: self._learner.task.space.learned_size], draws)
            start, stop = (0, len(vector)) if piece is None else piece.bounds(len(vector))
            with plugins.blamed(codec, "[codec]"):
                return codec.encode(vector[start:stop], draws)

        def done(tensors: tuple[WireTensor, ...]) -> None:
            if self._latest is not None and self._latest[1] is sent:
                self._latest = None  # whoever keeps a message keeps its model
            coded.set(tensors)

        self._thread.submit(job, done)
        return sent

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
