"""What leaves a node of its models, where that is not the model as it is: shaped by `[outgoing]`, coded by `[codec]`.

Both happen once per message, in the learning thread, in the order in which messages were sent: all receivers get equal
bytes, and what outgoing stage and codec remember is in order. Some receivers may get a message whole (`wire.wholes`).
Only a stage that is `to_each` makes of a message one for each neighbour.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import torch

from gossip import plugins
from gossip.draws import Draws
from gossip.node.handles import Deferred, Pending
from gossip.protocols.base import GossipStep, Message, PeerId
from gossip.stages import PeerState
from gossip.wire.codecs.base import Linked
from gossip.wire.codecs.float32 import EXACTLY
from gossip.wire.tensors import admitted
from gossip.wire.wholes import NO_TURN, Turn, wholes_for

if TYPE_CHECKING:
    from torch import Tensor

    from gossip.learner import Learner
    from gossip.node.learning_thread import LearningThread
    from gossip.wire.codecs.base import Codec
    from gossip.wire.tensors import WireTensor

Tensors: TypeAlias = "tuple[WireTensor, ...]"


Neighbours: TypeAlias = Callable[[int], Mapping[PeerId, float]]
"""(round) -> by what each neighbour weighs what it gets."""


def _nobody(round: int) -> Mapping[PeerId, float]:
    return {}


class _Making:
    """The tensors of one message."""

    def __init__(self, message: Message, turn: Turn) -> None:
        self.message = message
        self.turn = turn
        self.sent: dict[bool, Message] = {}
        """Whole or coded -> what is sent."""
        self.shaped: Tensor | None = None
        self.following: Tensors | None = None
        """What is added on links, once that is computed."""


class OutgoingModels:
    """Puts the tensors that travel, once they are computed, in place of models."""

    def __init__(self, *, codec: Codec, learner: Learner, thread: LearningThread) -> None:
        self._codec = codec
        self._learner = learner
        self._thread = thread
        self._latest: _Making | None = None
        self._users = not plugins.is_ours(codec)
        self._refers = codec.reference != "none"
        self._linked = codec if isinstance(codec, Linked) else None
        self._public = False
        """Whether anybody holds what a link's messages add up to."""
        self._wholes = wholes_for(codec.reference)
        self._learned_size = learner.task.space.learned_size
        self._told = PeerState({"codec": codec}, learner.task.space)
        """What the codec remembers: of this process, whose first model goes whole."""
        self._apart: tuple[object, dict[PeerId, Tensor]] = (None, {})
        """Of the latest model, what is added to it for each neighbour: who is served late gets what belongs to it, and
        who asks again, by another step's name, learns nothing more."""

    def came(self, peer: PeerId) -> None:
        """Note that `peer` can be reached from now on."""
        self._wholes.came(peer)

    def lost(self, peer: PeerId) -> None:
        """Note that `peer` did not get, or could not use, a model that it was sent."""
        self._wholes.lost(peer)

    @property
    def rate(self) -> float:
        """By how much of what mixing changes of the own copy the own model moves."""
        return self._linked.rate if self._linked is not None else 1.0

    def follows(self, message: Message) -> bool:
        """Return whether what is sent of its model is added to what the link has brought."""
        return self._linked is not None and not message.whole

    def coded(self, message: Message, peer: PeerId, neighbours: Neighbours = _nobody) -> Message:
        """Return the message as it is to be sent to `peer`; one that goes to many neighbours is coded once.

        `neighbours` are asked for where each is sent another model.
        """
        if self._learner.shapes_outgoing and self._learner.sends_each:
            return self._for_one(message, peer, neighbours(0))  # of a graph that stays
        aside = message.whole and self._codec.reference != "own"
        if (self._codec.exact or aside) and not self._learner.shapes_outgoing:
            return message
        making = self._latest
        if making is None or making.message is not message:
            turn = NO_TURN if aside else self._wholes.turn(message)
            making = self._latest = _Making(message, turn)
        whole = message.whole or (
            self._refers and (self._wholes.alone(peer, making.turn) or making.turn.whole)
        )
        sent = making.sent.get(whole)
        return self._make(making, whole=whole) if sent is None else sent

    def _for_one(self, message: Message, peer: PeerId, weights: Mapping[PeerId, float]) -> Message:
        """Return the message with what is added to it for `peer`; the codec is exact, `config.privacy` sees to that."""
        pending: Pending[Tensors] = Pending()
        model, piece, size = message.model, message.piece, self._learned_size  # type: ignore[attr-defined]
        named = weakref.ref(model)  # which is not held by it: who trains looks whether anybody has it
        draws = Draws.of(message, seed=self._learner.task.seed, peer=self._learner.peer)

        def job() -> Tensors:
            learned = model.vector[:size]
            at = (named, tuple(weights.items()))
            if self._apart[0] != at:
                self._apart = (at, self._learner.apart(weights))
            apart = self._apart[1].get(peer)
            sent = self._learner.outgoing(learned, draws) if apart is None else learned + apart
            start, stop = (0, size) if piece is None else piece.bounds(size)
            return EXACTLY.encode(sent[start:stop], draws)

        self._thread.submit(job, pending.set)
        return dataclasses.replace(message, model=pending)  # type: ignore[call-arg]

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
            start, stop = (0, self._learned_size) if piece is None else piece.bounds(self._learned_size)
            vector = making.shaped[start:stop]
            with plugins.blamed(self._codec, "[codec]"):
                if self._linked is not None and not making.message.whole:
                    return self._follow(self._linked, making, vector, draws, anew=whole)
                if not whole:
                    return self._write(making, vector, draws)
            if self._refers and making.turn.whole:
                self._tell_whole(vector, making.turn.number)
            # Nobody is to train in memory that a transfer reads.
            return EXACTLY.encode(vector.clone(), draws)

        return job

    def _write(self, making: _Making, vector: Tensor, draws: Draws) -> Tensors:
        rows = self._told.gather("codec", [0])
        tensors, rows = self._codec.write(vector, rows, draws, number=making.turn.number)
        self._told.scatter("codec", [0], rows)
        if self._users and not admitted([each.spec for each in tensors], self._codec.specs(len(vector))):
            raise plugins.Wrong(f"encode makes other tensors of {len(vector)} numbers than specs says")
        return tensors

    def _tell_whole(self, vector: Tensor, number: int) -> None:
        rows = self._codec.told_whole(vector[None], self._told.gather("codec", [0]), numbers=[number])
        self._told.scatter("codec", [0], rows)

    def _follow(self, codec: Linked, making: _Making, vector: Tensor, draws: Draws, *, anew: bool) -> Tensors:
        """Return what follows the message before, or begins a link anew with what it adds up to."""
        if making.following is None:
            if making.turn.whole:
                self._tell_whole(vector, making.turn.number)
            making.following = () if making.turn.whole else self._write(making, vector, draws)
            self._public = True
        if not anew:
            return making.following
        return codec.anew(self._told.gather("codec", [0]), number=making.turn.number)

    def own_coded(self, own: Tensor, at: GossipStep) -> Tensor | None:
        """Return what the others hold of `own` [P], with its slots that never travel; None: merges take it as it is.

        In the learning thread. It is coded again, for equal models and draws give equal codes; or it is what links add
        up to.
        """
        if not self._codec.own_coded or at.whole:
            return None
        if self._linked is not None:
            if not self._public:
                return None  # nobody holds anything of it yet
            return torch.cat([self._told.gather("codec", [0])["public"][0], own[self._learned_size :]])
        task = self._learner.task
        start, stop = at.part.bounds(task.space.learned_size)
        draws = Draws.at(at, seed=task.seed, peer=self._learner.peer)
        public = own.clone()
        public[start:stop] = self._codec.coded(own[None, start:stop], [draws])[0]
        return public
