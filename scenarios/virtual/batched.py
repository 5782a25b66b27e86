"""All peers' learning, deferred and computed in batches.

Training and merging only note what is wanted, and return a handle. When somebody looks at a model, or when enough has
gathered, everything noted is computed: level by level through the graph of requests, all trainings of a level in one
stack, all its averages in one sparse product. What a peer computes is what its node would, up to rounding.

Two things are a peer's own and are computed as a node does, one by one: rules that are not linear, which may remember
something, and networks that do not gain from batches (`BatchedLearning.method`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from gossip.errors import ProtocolMisuse, SettingError
from gossip.learner import Judged, Learner, check_merge
from gossip.learning import user_code
from gossip.learning.models import MODELS
from gossip.learning.task import Evaluation, Shard, Task
from gossip.merging.base import WEIGHT_TOLERANCE, Merge, check_weights
from gossip.merging.sanitise import SanitiseSettings
from gossip.protocols.base import Contribution, Part, PeerId
from gossip.settings import Choice
from scenarios.virtual import training
from scenarios.virtual.changed_averages import ChangedAverages
from scenarios.virtual.evaluation import StackedEvaluation
from scenarios.virtual.linear_stack import LinearStack
from scenarios.virtual.minibatches import MiniBatches
from scenarios.virtual.models import Arena, Handle
from scenarios.virtual.screening import Norms, Screen
from scenarios.virtual.training import StackedTraining

PENDING_PER_PEER_MAX = 4
PENDING_MIN = 256
"""So many requests wait at most: two rounds of training and averaging, enough to fill the stacks."""

CHUNK_BYTES = 2 * 2**20
"""Size of a stack of models: its gradient, itself and its successor then stay in the cache."""
CHUNK_BYTES_ACCELERATOR = 256 * 2**20
"""The same where what counts is to have enough to do."""
CHUNK_PEERS_MAX = 512
CHUNK_PEERS_MAX_ACCELERATOR = 8192


class _Train(NamedTuple):
    own: Handle
    round: int


class _Merge(NamedTuple):
    own: Handle
    own_weight: float
    received: Sequence[Contribution]
    round: int
    step: int
    last: bool


class _Adopt(NamedTuple):
    own: Handle
    received: Contribution


class _Graft(NamedTuple):
    own: Handle
    source: Handle
    part: Part


class _Craft(NamedTuple):
    own: Handle
    inputs: Sequence[Handle]
    function: Callable[[Tensor], Tensor]


_Level: TypeAlias = dict[type, list[Handle]]


class BatchedLearning:
    """The learning of all peers of a simulation; what `gossip.learner.Learner` is for one.

    Args:
        task: what is learnt.
        names: the peers, sorted; a peer's position is its number everywhere else.
        merge: settings of the rule by which models become one.
        sanitise: what is refused before the rule sees it.
        shards: samples of peers whose own are not the partition's.
        device: where everything is computed.
        method: ``auto``, or ``linear-stack``, ``vmap`` or ``loop`` for local updates.

    Raises:
        UserError: the task's data, model or partition cannot be used, there is no such device, or `method` is
            unknown or does not suit the network.
    """

    def __init__(
        self,
        task: Task,
        names: Sequence[PeerId],
        merge: Choice,
        *,
        sanitise: SanitiseSettings | None = None,
        shards: Mapping[int, Shard] | None = None,
        device: torch.device | str = "cpu",
        method: str = "auto",
    ) -> None:
        self.task = task
        self.names = tuple(names)
        self.device = _usable_device(device)
        self.skipped = 0
        """Mini-batches whose gradient was not finite, so far."""
        sizes = [len(shard) for shard in task.partition(len(names))]
        task.shard(sizes.index(min(sizes)), len(names))  # says so where it is too small
        self._merge_choice = merge
        self._merge_class: type[Merge] = merge.load()
        self._sanitise = sanitise or SanitiseSettings()
        self._shards = dict(shards or {})
        self.on_judged: Callable[[int, Judged], None] = lambda peer, judged: None
        """Told (peer, what became of a model it received); when the merge is computed, which may be much later."""
        self._learners: dict[int, Learner] = {}
        example: Merge = merge.load()(merge)
        check_merge(task, example)
        self.declares = example.declares_classes
        """Whether models are sent with the classes that the sender has samples of."""
        self.declared: dict[PeerId, frozenset[int]] = {}
        """What each peer declares; by the simulation's attackers to be changed."""
        if self.declares:
            self.declared = {
                name: frozenset(
                    torch.unique(self._shards[position].y).tolist()
                    if position in self._shards
                    else task.familiar(position, len(names))
                )
                for position, name in enumerate(names)
            }
        self.method, self.reason = training.choose(
            task, method, device=self.device, batch_size=min(task.local_settings.batch_size, max(sizes))
        )
        stack = LinearStack.of(task.module, task.space) if self.method == "linear-stack" else None
        self._minibatches = MiniBatches(
            task,
            self.names,
            # Of a user's network nobody knows whether samples act on each other.
            pad=stack is not None or task.model_settings.name in MODELS,
            device=self.device,
            shards=self._shards,
        )
        self._training: StackedTraining | None = None
        if self.method != "loop":
            self._training = StackedTraining(
                task.local_update(self.device), self._minibatches, stack.gradient if stack else None
            )
        self._evaluation = StackedEvaluation(task, stack, device=self.device, alone=self.method == "loop")
        self._keeps_velocity = task.local_update(self.device).keeps_velocity
        self._arena = Arena(task.space.size, rows=2 * len(names) + 8, device=self.device)
        self._free = self._arena.free
        self._pending: list[Handle] = []
        self._pending_max = max(PENDING_MIN, PENDING_PER_PEER_MAX * len(names))
        self._chunk = _chunk_peers(4 * task.space.size, self.device)
        self._screen = Screen(
            self._sanitise,
            self._arena,
            learned_size=task.space.learned_size,
            chunk=self._chunk,
            tell=lambda peer, judged: self.on_judged(peer, judged),
        )
        rule = self._merge_class.after_average(merge, task.space, len(names))
        self._after_average = rule and ChangedAverages(
            rule, self._arena, task.space.learned_size, chunk=self._chunk
        )

    # --- what a peer asks for; cheap, and answered at once ---

    def initial(self, peer: int, *, independent: bool | None = None) -> Handle:
        """Return the model of round 0: common to all peers, or the peer's own draw; default: as `[model]` says."""
        return self.from_vector(self.task.initial_of(self.names[peer], independent=independent), peer)

    def from_vector(self, vector: Tensor, peer: int) -> Handle:
        """Return a handle for a copy of `vector` [P], for instance from a checkpoint."""
        if vector.shape != (self.task.space.size,):
            raise ProtocolMisuse(
                f"a vector of shape {tuple(vector.shape)}; expected ({self.task.space.size},)"
            )
        handle = Handle(peer, None, self._free)
        rows = self._arena.take(1)
        self._arena.put(rows, vector.to(self.device)[None])
        handle.place(rows[0])
        return handle

    def train(self, model: Handle, peer: int, *, round: int) -> Handle:
        """Return `model` as one local update of `peer` will leave it."""
        return self._noted(peer, _Train(model, round))

    def merge(
        self,
        own: Handle,
        own_weight: float,
        received: Sequence[Contribution],
        *,
        peer: int,
        round: int,
        step: int = 0,
        last: bool = True,
    ) -> Handle:
        """Return the merged model: learned slots by the rule, the others from `own`. Contributions hold handles."""
        return self._noted(peer, _Merge(own, own_weight, received, round, step, last))

    def adopt(self, own: Handle, received: Contribution) -> Handle:
        """Return another peer's model with the slots that never travel taken from `own`; see `Learner.adopt`."""
        return self._noted(own.peer, _Adopt(own, received))

    def graft(self, base: Handle, source: Handle, part: Part) -> Handle:
        """Return `base` with `part` of what travels taken from `source`."""
        return self._noted(base.peer, _Graft(base, source, part))

    def craft(self, own: Handle, inputs: Sequence[Handle], function: Callable[[Tensor], Tensor]) -> Handle:
        """Return ``function(learned slots of the inputs (n, L)) -> [L]``, with all other slots of `own`."""
        return self._noted(own.peer, _Craft(own, inputs, function))

    def samples(self, peer: int) -> int:
        """Return how many samples a local update of `peer` sees, repetitions counted."""
        return self._minibatches.samples(peer)

    # --- what the world looks at; computes whatever is outstanding ---

    def vector(self, handle: Handle) -> Tensor:
        """Return a copy of the model [P] on the CPU."""
        return self.stack([handle])[0]

    def stack(self, handles: Sequence[Handle]) -> Tensor:
        """Return copies of the models (n, P) on the CPU."""
        self.flush()
        return self._arena.vectors.index_select(0, self._indices(handles)).cpu()

    def loss(self, handle: Handle) -> float:
        """Return the mean training loss of a handle that `train` returned; NaN where every step was skipped."""
        self.flush()
        if handle.loss is None:
            raise ProtocolMisuse(f"{handle} is no trained model and has no training loss")
        return handle.loss

    def evaluate(self, handles: Sequence[Handle]) -> list[Evaluation]:
        """Return loss and accuracy of each model on the common test set, as `Learner.evaluate` does."""
        self.flush()
        evaluations: list[Evaluation] = []
        for start in range(0, len(handles), self._chunk):
            part = handles[start : start + self._chunk]
            models = self._arena.at([handle.row for handle in part])
            if self.task.model_settings.batch_norm == "reestimate":
                models = torch.stack(
                    [
                        self._learner(handle.peer).evaluated(model)
                        for handle, model in zip(part, models, strict=True)
                    ]
                ).to(self.device)
            evaluations += self._evaluation.run(models)
        return evaluations

    @property
    def rows_used(self) -> int:
        """How many vectors are kept at the moment."""
        return self._arena.rows_used

    # --- computing ---

    def flush(self) -> None:
        """Compute everything that was asked for."""
        pending, self._pending = self._pending, []
        levels = self._levels(pending)
        del pending  # what nobody holds any more is to be freed on the way
        levels.reverse()
        while levels:
            level = levels.pop()
            for kind, compute in self._computations():
                if kind in level:
                    compute(level.pop(kind))

    def _noted(self, peer: int, request: _Train | _Merge | _Adopt | _Graft | _Craft) -> Handle:
        handle = Handle(peer, request, self._free)
        self._pending.append(handle)
        if len(self._pending) >= self._pending_max:
            self.flush()
        return handle

    def _computations(self) -> list[tuple[type, Callable[[list[Handle]], None]]]:
        by_product = self._merge_class.linear or self._after_average is not None
        return [
            (_Train, self._train_alone if self._training is None else self._train_stacked),
            (_Merge, self._merge_product if by_product else self._merge_alone),
            (_Adopt, self._adopt),
            (_Graft, self._graft),
            (_Craft, self._craft),
        ]

    def _levels(self, pending: list[Handle]) -> list[_Level]:
        """Sort requests by depth. They were noted after those they need, so one pass will do."""
        levels: list[_Level] = []
        # A rule that remembers must see its merges in the order in which they were asked for.
        last_merge: dict[int, int] = {}
        ordered = not self._merge_class.linear
        for handle in pending:
            request = handle.request
            depth = request.own.level
            kind = type(request)
            if kind is _Merge:
                for contribution in request.received:
                    if contribution.model.level > depth:
                        depth = contribution.model.level
                if ordered:
                    depth = max(depth, last_merge.get(handle.peer, 0))
                    last_merge[handle.peer] = depth + 1
            elif kind is _Adopt:
                depth = max(depth, request.received.model.level)
            elif kind is _Graft:
                depth = max(depth, request.source.level)
            elif kind is _Craft:
                depth = max([depth, *(each.level for each in request.inputs)])
            if depth == len(levels):
                levels.append({})
            levels[depth].setdefault(kind, []).append(handle)
            handle.level = depth + 1
        return levels

    def _train_stacked(self, handles: list[Handle]) -> None:
        assert self._training is not None
        rank = self._minibatches.rank
        handles.sort(key=lambda handle: rank[handle.peer])
        rows = self._arena.take(len(handles))
        for start in range(0, len(handles), self._chunk):
            part = handles[start : start + self._chunk]
            outcome = self._training.run(
                self._arena.at([handle.request.own.row for handle in part]),
                [handle.peer for handle in part],
                [handle.request.round for handle in part],
                self._velocities(part),
            )
            self._arena.put(rows[start : start + len(part)], outcome.models)
            self.skipped += outcome.skipped
            if outcome.velocities is not None:
                self._keep_velocities(part, outcome.velocities)
            for handle, row, loss in zip(part, rows[start : start + len(part)], outcome.losses, strict=True):
                handle.loss = loss
                handle.place(row)

    def _train_alone(self, handles: list[Handle]) -> None:
        rows = self._arena.take(len(handles))
        for handle, row in zip(handles, rows, strict=True):
            own, round = handle.request
            velocities = self._velocities([handle])
            outcome = self._learner(handle.peer).train(
                self._arena.vectors[own.row],
                round=round,
                velocity=None if velocities is None else velocities[0],
            )
            self._arena.vectors[row] = outcome.model
            self.skipped += outcome.skipped
            if outcome.velocity is not None:
                self._keep_velocities([handle], outcome.velocity[None])
            handle.loss = outcome.loss
            handle.place(row)

    def _velocities(self, handles: list[Handle]) -> Tensor | None:
        """Return the momentum buffers (n, T) that models about to be trained come with; zero where one has none."""
        if not self._keeps_velocity:
            return None
        size = self.task.space.trained_size
        kept = [handle.request.own.velocity for handle in handles]
        having = [place for place, velocity in enumerate(kept) if velocity is not None]
        rows = [velocity.row for velocity in kept if velocity is not None]
        if len(having) == len(kept):
            return self._arena.at(rows)[:, :size]
        velocities = torch.zeros(len(kept), size, device=self.device)
        if having:
            velocities[self._arena.indices(having)] = self._arena.at(rows)[:, :size]
        return velocities

    def _keep_velocities(self, handles: list[Handle], velocities: Tensor) -> None:
        rows = self._arena.take(len(handles))
        padding = self.task.space.size - velocities.shape[1]
        self._arena.put(rows, functional.pad(velocities, (0, padding)).to(self.device))
        for handle, row in zip(handles, rows, strict=True):
            handle.velocity = Handle(handle.peer, None, self._free)
            handle.velocity.place(row)

    def _merge_product(self, handles: list[Handle]) -> None:
        """Average all at once: a sparse matrix of weights times the arena. Some rules then change the averages."""
        rank = self._minibatches.rank
        handles.sort(key=lambda handle: rank[handle.peer])  # as they will be trained
        norms = self._norms(handles)
        rows = self._arena.take(len(handles))
        learned = self.task.space.learned_size
        if self._after_average is not None:
            self._after_average.measure(handles)
        for start in range(0, len(handles), self._chunk):
            part = handles[start : start + self._chunk]
            inputs: list[int] = []
            weights: list[float] = []
            firsts: list[int] = []
            screened: list[tuple[float, Sequence[Contribution]]] = []
            for handle in part:
                own, own_weight, received, round, *_ = handle.request
                own_weight, received = self._screen.merge(
                    handle.peer, own, own_weight, received, round=round, norms=norms
                )
                screened.append((own_weight, received))
                firsts.append(len(inputs))
                inputs.append(own.row)
                weights.append(own_weight)
                for contribution in received:
                    inputs.append(contribution.model.row)
                    weights.append(contribution.weight)
            merged = self._weighted_sums(part, inputs, weights, firsts)
            if self._after_average is not None:
                self._after_average.change(part, screened, merged[:, :learned])
            if learned < merged.shape[1]:
                own_rows = self._arena.indices([handle.request.own.row for handle in part])
                merged[:, learned:] = self._arena.vectors[:, learned:].index_select(0, own_rows)
            part_rows = rows[start : start + len(part)]
            self._arena.put(part_rows, merged)
            for handle, row in zip(part, part_rows, strict=True):
                handle.velocity = handle.request.own.velocity
                handle.place(row)

    def _weighted_sums(
        self, handles: list[Handle], inputs: list[int], weights: list[float], firsts: list[int]
    ) -> Tensor:
        weights_exact = torch.tensor(weights, dtype=torch.float64)
        ends = torch.tensor([*firsts[1:], len(inputs)])
        bounds = torch.tensor(firsts)
        sums = torch.cat([weights_exact.new_zeros(1), weights_exact.cumsum(0)])
        off_by = (sums[ends] - sums[bounds] - 1).abs()
        if float(off_by.max()) > WEIGHT_TOLERANCE / 2 or min(weights) < 0 or bool(off_by.isnan().any()):
            for handle in handles:
                check_weights(handle.request.own_weight, handle.request.received)
        return functional.embedding_bag(
            self._arena.indices(inputs),
            self._arena.vectors,
            bounds.to(self.device),
            mode="sum",
            per_sample_weights=weights_exact.to(torch.float32).to(self.device),
        )

    def _merge_alone(self, handles: list[Handle]) -> None:
        rows = self._arena.take(len(handles))
        learned = self.task.space.learned_size
        vectors = self._arena.vectors
        for handle, row in zip(handles, rows, strict=True):
            own, own_weight, received, round, step, last = handle.request
            contributions = [
                Contribution(each.sender, vectors[each.model.row, :learned], each.weight) for each in received
            ]
            mine = vectors[own.row]
            if self._merge_class.retains:  # and rows are written again
                contributions = [each._replace(model=each.model.clone()) for each in contributions]
                mine = mine.clone()
            learner = self._learner(handle.peer)
            vectors[row] = learner.merge(
                mine,
                own_weight,
                contributions,
                round=round,
                step=step,
                last=last,
                declared=self.declared,
            )
            for judged in learner.take_judged():
                self.on_judged(handle.peer, judged)
            handle.velocity = own.velocity
            handle.place(row)

    def _norms(self, handles: list[Handle]) -> Norms:
        """Return the norms of everything that merges read, by row."""
        rows = [handle.request.own.row for handle in handles]
        for handle in handles:
            rows += [each.model.row for each in handle.request.received]
        return self._screen.norms(rows)

    def _adopt(self, handles: list[Handle]) -> None:
        norms = self._screen.norms(
            [row for handle in handles for row in (handle.request.own.row, handle.request.received.model.row)]
        )
        rows = self._arena.take(len(handles))
        sources = []
        for handle in handles:
            own, received = handle.request
            _, accepted = self._screen.merge(handle.peer, own, 0.0, [received], round=None, norms=norms)
            sources.append(accepted[0].model if accepted else own)
        adopted = self._arena.vectors.index_select(0, self._indices(sources))
        learned = self.task.space.learned_size
        own = self._indices([handle.request.own for handle in handles])
        adopted[:, learned:] = self._arena.vectors[:, learned:].index_select(0, own)
        self._arena.put(rows, adopted)
        for handle, row in zip(handles, rows, strict=True):
            handle.place(row)

    def _graft(self, handles: list[Handle]) -> None:
        rows = self._arena.take(len(handles))
        vectors = self._arena.vectors
        for handle, row in zip(handles, rows, strict=True):
            base, source, part = handle.request
            start, stop = part.bounds(self.task.space.learned_size)
            vectors[row] = vectors[base.row]
            vectors[row, start:stop] = vectors[source.row, start:stop]
            handle.velocity = base.velocity
            handle.place(row)

    def _craft(self, handles: list[Handle]) -> None:
        rows = self._arena.take(len(handles))
        learned = self.task.space.learned_size
        vectors = self._arena.vectors
        for handle, row in zip(handles, rows, strict=True):
            own, inputs, function = handle.request
            crafted = function(vectors.index_select(0, self._indices(inputs))[:, :learned])
            vectors[row] = vectors[own.row]
            vectors[row, :learned] = crafted
            handle.place(row)

    def _indices(self, handles: Sequence[Handle]) -> Tensor:
        return self._arena.indices([handle.row for handle in handles])

    def _learner(self, peer: int) -> Learner:
        if peer not in self._learners:
            self._learners[peer] = Learner(
                self.task,
                peer=self.names[peer],
                position=peer,
                peers=len(self.names),
                merge=self._merge_choice.load()(self._merge_choice),
                sanitise=self._sanitise,
                shard=self._shards.get(peer),
                device=self.device,
            )
        return self._learners[peer]


def _usable_device(device: torch.device | str) -> torch.device:
    try:
        usable = torch.device(device)
        torch.empty(0, device=usable)
    except (RuntimeError, AssertionError) as failure:  # builds without CUDA assert that there is one
        raise SettingError(
            f"[virtual] device = '{device}' cannot be used: {user_code.one_line(failure)}"
        ) from failure
    return usable


def _chunk_peers(model_bytes: int, device: torch.device) -> int:
    """Return how many models make a stack."""
    if device.type == "cpu":
        return max(1, min(CHUNK_PEERS_MAX, CHUNK_BYTES // model_bytes))
    return max(1, min(CHUNK_PEERS_MAX_ACCELERATOR, CHUNK_BYTES_ACCELERATOR // model_bytes))
