"""A user's own stages, tried before anything starts: their mistakes are sentences there, and no ends of a run later.

Each is given small made-up stacks of the task's size, and has to return what its base class says, leaving its
arguments as they were. What is ours is not tried. Nothing here is random, and nothing of it is learnt from.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from gossip import plugins
from gossip.draws import Draws
from gossip.errors import SettingError, UserError
from gossip.learner import Learner
from gossip.learning.task import Task
from gossip.learning.updates.base import ASKS_NOTHING, LocalUpdate, UpdateContext
from gossip.learning.updates.settings import OPTIMIZERS
from gossip.merging.settings import MERGES
from gossip.outgoing.base import Outgoing, apart_by, sent_by
from gossip.outgoing.settings import OUTGOINGS
from gossip.parameters import ParameterSpace
from gossip.plugins import Wrong
from gossip.privacy.entropy import OPERATING_SYSTEM
from gossip.protocols.base import Contribution, GossipStep
from gossip.returned import check_state, check_tensor, pair
from gossip.settings import Choice, Seam
from gossip.stages import Stage, State
from gossip.wire.codecs.base import Codec
from gossip.wire.codecs.settings import CODECS
from gossip.wire.tensors import admitted

PEERS = 2
_RATES = torch.tensor([[0.01], [0.02]])
"""Step sizes of peers in rounds of their own."""
MODELS = "the model"
SAME = 1e-3
"""How far two outcomes may be apart of how far a model has moved, for what mixes peers is apart by a half or so …"""
ROUNDING = 4e-7
"""… and of how long it is."""
WEIGHTS = (0.3, 0.2)
"""By which neighbours weigh what they are sent."""
DRAWS = (Draws(0, "a", 0), Draws(0, "b", 1))


def probe(task: Task, *, merge: Choice, outgoing: Choice, codec: Choice, peers: int) -> None:
    """Try what is not ours; what is accepted and should be known is `task.tried` afterwards.

    Raises:
        SettingError: one sentence that names the section, the kind, and what is wrong with it.
    """
    space, doubts = task.space, _Doubts()
    if _foreign(OPTIMIZERS, task.local_settings.optimizer):
        with _told("[local] optimizer", task.local_settings.optimizer, doubts):
            _probe_update(task.local_training().update, space, doubts)
    if _foreign(OUTGOINGS, outgoing):
        with _told("[outgoing]", outgoing, doubts):
            _probe_outgoing(outgoing.load()(outgoing), space, doubts)
    if _foreign(CODECS, codec):
        with _told("[codec]", codec, doubts):
            _probe_codec(codec.load()(codec), space.learned_size)
    if _foreign(MERGES, merge):
        with _told("[merge]", merge, doubts):
            _probe_merge(task, merge, peers, doubts)
    task.tried = tuple(doubts.told)


class _Doubts:
    """What is accepted and should be known."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.whose = ""

    def varies(self, what: str, mend: str) -> None:
        """Note that something is not the same twice."""
        self.told.append(f"{self.whose} {what}: runs with equal seeds will differ; {mend}")


def _foreign(seam: Seam, choice: Choice) -> bool:
    return type(choice) not in seam.ours()


@contextmanager
def _told(where: str, choice: Choice, doubts: _Doubts) -> Iterator[None]:
    doubts.whose = f"{where} kind = '{choice.kind}'"
    try:
        yield
    except UserError:
        raise
    except Wrong as wrong:
        raise SettingError(f"{doubts.whose}: {wrong}") from None
    except (Exception, SystemExit) as failure:
        raise SettingError(f"{doubts.whose} fails when it is tried: {plugins.one_line(failure)}") from failure


class _Gradient:
    """A gradient, and losses, of made-up models: row by row."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self.asked = False

    def __call__(self, points: Tensor) -> Tensor:
        _check_tensor(points, self._shape, "asks for the gradient at")
        self.asked = True
        return 0.1 * points + 0.01

    def losses(self, points: Tensor) -> Tensor:
        _check_tensor(points, self._shape, "asks for the losses at")
        self.asked = True
        return (0.05 * points.square() + 0.01 * points).mean(1)


def _probe_update(update: LocalUpdate, space: ParameterSpace, doubts: _Doubts) -> None:
    models, state = _stack(space.trained_size), _rows(update, space)
    together = _updated(update, models, state, _RATES)
    mixed = _mixed(update, models, state, together)
    if mixed is None:
        return
    if not _equal(together, _updated(update, models, state, _RATES)):
        doubts.varies("makes something else of the same models each time", "no draws are an update's to make")
        return
    raise Wrong(
        f"makes something else of {mixed} where a peer is stepped beside another than where it is alone; each row is "
        "one peer's: sums and norms of a row are over dim=1, with keepdim=True"
    )


def _mixed(update: LocalUpdate, models: Tensor, state: State, together: State) -> str | None:
    """Return what the update makes of a peer's alone that is not what it has made beside another's; `None`: nothing."""
    for row in range(PEERS):
        only = slice(row, row + 1)
        alone = _updated(
            update, models[only], {name: each[only] for name, each in state.items()}, _RATES[only]
        )
        for name, found in alone.items():
            beside = together[name][only]
            # Models are compared by how far they have moved; no sum need round alike.
            begun = models[only] if name == MODELS else torch.zeros_like(beside)
            limit = SAME * (beside - begun).norm() + ROUNDING * beside.norm()
            if bool((found - beside).norm() > limit):
                return name
    return None


def _equal(found: State, again: State) -> bool:
    return all(torch.equal(each, again[name]) for name, each in found.items())


def _updated(update: LocalUpdate, models: Tensor, state: State, lr: Tensor) -> State:
    """Return models, by the name `MODELS`, and rows after a local update of one step."""
    shape = tuple(models.shape)
    context, gradient = UpdateContext(torch.zeros(len(models), 1), lr), _Gradient(shape)
    with _unchanged(models=models, **state):
        begun = update.begin(models, state, context)
    _check_state(begun, state, "begin")
    with _unchanged(models=models, **begun):
        moved, after = pair(update.step(gradient, models, begun, context.lr), "step")
    _check_tensor(moved, shape, "step returns as models")
    _check_state(after, state, "step")
    if not gradient.asked:
        raise Wrong(ASKS_NOTHING)
    handed_on, kept = pair(update.end(moved, after, context, torch.ones(len(models), 1)), "end")
    _check_tensor(handed_on, shape, "end returns as models")
    _check_state(kept, state, "end")
    return {**{f"row '{name}'": row for name, row in kept.items()}, MODELS: handed_on}


def _probe_outgoing(outgoing: Outgoing, space: ParameterSpace, doubts: _Doubts) -> None:
    models, state = _stack(space.learned_size), _rows(outgoing, space)
    with _unchanged(models=models, **state):
        sent, kept = sent_by(outgoing, models, state, DRAWS)
    _check_finite(sent, "send returns as models")
    _check_state(kept, state, "send")
    if outgoing.to_each:
        apart = apart_by(outgoing, space.learned_size, WEIGHTS, OPERATING_SYSTEM)
        _check_finite(apart, "apart returns")
    again, kept_again = sent_by(outgoing, models, state, DRAWS)
    if not _equal({**kept, "": sent}, {**kept_again, "": again}):
        doubts.varies(
            "sends something else of the same models and draws each time",
            "draw from `draws`, unless it is noise that protects somebody's data, which must be drawn elsewhere",
        )


def _probe_codec(codec: Codec, elements: int) -> None:
    # A part of a model may be one number.
    for count in {1, elements}:
        vector = _stack(count)[0]
        with _unchanged(vector=vector):
            tensors = codec.encode(vector, DRAWS[0])
            again = codec.encode(vector, DRAWS[0])
        specs = codec.specs(count)
        if not admitted([tensor.spec for tensor in tensors], specs):
            raise Wrong(f"encode makes other tensors of {count} numbers than specs says")
        if any(bytes(one.data) != bytes(other.data) for one, other in zip(tensors, again, strict=True)):
            raise Wrong("encode makes other bytes of the same numbers and draws; draw from `draws` alone")
        decoded = codec.decode_as(tensors, count)
        _check_tensor(decoded, (count,), f"decode returns for {count} numbers")
        coded = codec.coded(vector[None], DRAWS[:1])
        _check_tensor(coded, (1, count), "coded returns")
        if not torch.equal(coded[0].view(torch.int32), decoded.view(torch.int32)):
            raise Wrong("coded returns other numbers than decode makes of what encode made")
        if codec.exact and not torch.equal(decoded.view(torch.int32), vector.view(torch.int32)):
            raise Wrong("says that it is exact, and decode returns other numbers than encode was given")


def _probe_merge(task: Task, merge: Choice, peers: int, doubts: _Doubts) -> None:
    own = task.initial()
    others = [own[: task.space.learned_size] * scale for scale in (0.9, 1.1)]
    received = [Contribution(name, model, 0.25) for name, model in zip("bc", others, strict=True)]

    def merged() -> Tensor:
        learner = Learner(task, peer="a", position=0, peers=peers, merge=merge.load()(merge))
        with _unchanged(own=own, received=others[0], **{"the other received": others[1]}):
            found = learner.merge(own, 0.5, received, at=GossipStep(0))
        _check_tensor(found, (len(own),), "returns for a model")
        learner.merge(own, 1.0, [], at=GossipStep(1))
        return found

    if not torch.equal(merged(), merged()):
        doubts.varies(
            "makes something else of the same models and context each time",
            "draw from context.rng(purpose), and keep nothing outside of self",
        )


def _stack(size: int) -> Tensor:
    return torch.linspace(-1, 1, PEERS * size).reshape(PEERS, size) if size else torch.empty(PEERS, 0)


def _rows(stage: Stage, space: ParameterSpace) -> State:
    return {name: torch.zeros(PEERS, row.length) for name, row in stage.rows(space).items()}


def _check_tensor(found: Any, shape: tuple[int, ...], what: str) -> None:
    check_tensor(found, shape, what)
    _check_finite(found, what)


def _check_finite(found: Tensor, what: str) -> None:
    if not bool(found.isfinite().all()):
        raise Wrong(f"{what} numbers that are not finite, for models that are")


def _check_state(found: Any, declared: State, what: str) -> None:
    check_state(found, declared, what)
    for name in declared:
        _check_finite(found[name], f"{what} returns as row '{name}'")


@contextmanager
def _unchanged(**given: Tensor) -> Iterator[None]:
    before = {name: tensor.clone() for name, tensor in given.items()}
    yield
    for name, tensor in given.items():
        if not torch.equal(tensor, before[name]):
            raise Wrong(f"changes what it is given: {name}; return new tensors")
