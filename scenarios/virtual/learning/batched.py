"""All peers' learning, deferred and computed in batches.

Training and merging only note what is wanted, and return a handle. When somebody looks at a model, or when enough has
gathered, everything noted is computed: level by level through the graph of requests, all trainings of a level in one
stack, all its averages in one sparse product. What a peer computes is what its node would, up to rounding.

Two things are a peer's own and are computed as a node does, one by one: rules that are not linear, which may remember
something, and networks that do not gain from batches (`BatchedLearning.method`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor

from gossip.draws import Draws
from gossip.errors import ProtocolMisuse, SettingError
from gossip.learner import Learner, RecordedVerdict, check_merge
from gossip.learning import user_code
from gossip.learning.divergence import rms_of
from gossip.learning.models import MODELS
from gossip.learning.task import Evaluation, Shard, Task
from gossip.merging.base import Merge
from gossip.merging.sanitise import SanitiseSettings
from gossip.outgoing.base import Outgoing
from gossip.outgoing.settings import NoOutgoingSettings
from gossip.protocols.base import WHOLE, Contribution, GossipStep, Message, Part, PeerId
from gossip.settings import Choice
from gossip.stages import PeerState, Stage
from gossip.wire.codecs.settings import Float32Settings
from scenarios.virtual.learning import requests, training
from scenarios.virtual.learning.arena import Arena, Handle
from scenarios.virtual.learning.corrections import Corrections
from scenarios.virtual.learning.divergence import Watches
from scenarios.virtual.learning.evaluation import StackedEvaluation
from scenarios.virtual.learning.exchanges import Exchanges
from scenarios.virtual.learning.linear_stack import LinearStack
from scenarios.virtual.learning.minibatches import MiniBatches
from scenarios.virtual.learning.processes import Processes
from scenarios.virtual.learning.screening import Screen
from scenarios.virtual.learning.sending import Sending
from scenarios.virtual.learning.training import StackedTraining

PENDING_PER_PEER_MAX = 4
PENDING_MIN = 256
"""So many requests wait at most: two rounds of training and averaging, enough to fill the stacks."""

CHUNK_BYTES = 2 * 2**20
"""Size of a stack of models: its gradient, itself and its successor then stay in the cache."""
CHUNK_BYTES_ACCELERATOR = 256 * 2**20
"""The same where what counts is to have enough to do."""
CHUNK_PEERS_MAX = 512
CHUNK_PEERS_MAX_ACCELERATOR = 8192


class Memory:
    """What a peer remembered at its checkpoint, once that is computed."""

    __slots__ = ("rows",)

    def __init__(self) -> None:
        self.rows: dict[str, Tensor] | None = None


class BatchedLearning:
    """The learning of all peers of a simulation; what `gossip.learner.Learner` is for one.

    Args:
        task: what is learnt.
        names: the peers, sorted; a peer's position is its number everywhere else.
        merge: settings of the rule by which models become one.
        outgoing: settings of what becomes of models before they are sent; default: nothing.
        codec: settings of what travels of them; default: all, as it is.
        sanitise: what is refused before the rule sees it.
        shards: samples of peers whose own are not the partition's.
        attackers: peers who send what they like: their models are coded, and not shaped before.
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
        outgoing: Choice | None = None,
        codec: Choice | None = None,
        sanitise: SanitiseSettings | None = None,
        shards: Mapping[int, Shard] | None = None,
        attackers: Collection[int] = (),
        device: torch.device | str = "cpu",
        method: str = "auto",
    ) -> None:
        self.task = task
        self.names = tuple(names)
        self.device = _usable_device(device)
        sizes = [len(shard) for shard in task.partition(len(names))]
        task.shard(sizes.index(min(sizes)), len(names))  # says so where it is too small
        self._merge_choice = merge
        self._merge_class: type[Merge] = merge.load()
        self._sanitise = sanitise or SanitiseSettings()
        self._shards = dict(shards or {})
        self.on_judged: Callable[[int, RecordedVerdict], None] = lambda peer, judged: None
        """Told (peer, what became of a model it received); when the merge is computed, which may be much later."""
        self._processes = Processes()
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
        self.watches = Watches(
            len(names),
            classes=task.dataset.classes,
            rms=rms_of(task.initial()[: task.space.learned_size]),
            steps_of=lambda peer: len(self._minibatches.plans[peer].sizes),
        )
        self._training: StackedTraining | None = None
        if self.method != "loop":
            self._training = StackedTraining(
                task.local_training(self.device), self._minibatches, stack.gradient if stack else None
            )
        self._evaluation = StackedEvaluation(task, stack, device=self.device, alone=self.method == "loop")
        update = task.local_training(self.device).update
        # Those who are trained alone remember by themselves.
        outgoing = outgoing or NoOutgoingSettings()
        codec = codec or Float32Settings()
        shaping: Outgoing = outgoing.load()(outgoing)
        stages: dict[str, Stage] = {"outgoing": shaping}
        if self._training is not None:
            stages["update"] = update
        self._state = PeerState(stages, task.space, peers=len(names), device=self.device)
        self._arena = Arena(task.space.size, rows=2 * len(names) + 8, device=self.device)
        self._free = self._arena.free
        self.remembers = not self._state.empty or any(row.kept for row in update.rows(task.space).values())
        """Whether peers remember anything beside their models that a checkpoint has to hold."""
        self._trainings = [0] * len(names)
        self._memories: dict[tuple[int, int], Memory] = {}
        self._pending: list[Handle] = []
        self._pending_max = max(PENDING_MIN, PENDING_PER_PEER_MAX * len(names))
        self._chunk = _chunk_peers(4 * task.space.size, self.device)
        self._sending = Sending(
            self._arena,
            shaping,
            codec.load()(codec),
            self._state,
            unshaped=attackers,
            learned=task.space.learned_size,
            chunk=self._chunk,
        )
        self.codes = self._sending.needed
        """Whether receivers hold anything else of a model than its sender has."""
        screen = Screen(
            self._sanitise,
            self._arena,
            self._processes,
            learned_size=task.space.learned_size,
            chunk=self._chunk,
            tell=lambda peer, judged: self.on_judged(peer, judged),
        )
        rule = self._merge_class.correction(merge, task.space)
        self._averages = self._merge_class.linear or rule is not None
        self._exchanges = Exchanges(
            self._arena,
            screen,
            learned=task.space.learned_size,
            chunk=self._chunk,
            rank=self._minibatches.rank,
            corrections=rule
            and Corrections(rule, self._processes, self._arena, task.space.learned_size, chunk=self._chunk),
            learner_of=self._learner,
            retains=self._merge_class.retains,
            declared=self.declared,
            tell=lambda peer, judged: self.on_judged(peer, judged),
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
        self._trainings[peer] += 1
        return self._noted(peer, requests.Train(model, round, self._trainings[peer]))

    def begin_anew(self, peer: int) -> None:
        """Forget all that the peer has beside models, for its process has ended: momentum, rule, muted senders."""
        if any(handle.peer == peer for handle in self._pending):
            self.flush()  # what it asked for before still sees all that
        self._processes.pop(peer, None)
        self._state.zero(peer)

    def remember(self, peer: int) -> Memory:
        """Return what the peer remembers after the local updates that it has asked for, for its checkpoint."""
        memory = Memory()
        asked = self._trainings[peer]
        if any(handle.peer == peer and type(handle.request) is requests.Train for handle in self._pending):
            self._memories[peer, asked] = memory
        else:
            memory.rows = self._rows_of(peer)
        return memory

    def restore(self, peer: int, memory: Memory) -> None:
        """Take over what a checkpoint holds; after `begin_anew`."""
        if memory.rows is None:
            self.flush()
        assert memory.rows is not None
        for state, row in self._states_of(peer):
            state.restore(row, {name: memory.rows[name] for name in state.names})

    def _states_of(self, peer: int) -> list[tuple[PeerState, int]]:
        """Return where what the peer remembers lies; who is trained alone remembers that part alone."""
        states = [(self._state, peer)]
        if self._training is None:
            states.append((self._learner(peer).state, 0))
        return states

    def _rows_of(self, peer: int) -> dict[str, Tensor]:
        return {name: row for state, k in self._states_of(peer) for name, row in state.export(k).items()}

    def _trained(self, handle: Handle) -> None:
        memory = self._memories.pop((handle.peer, handle.request.number), None)
        if memory is not None:
            memory.rows = self._rows_of(handle.peer)

    def merge(
        self,
        own: Handle,
        own_weight: float,
        received: Sequence[Contribution],
        *,
        peer: int,
        at: GossipStep,
    ) -> Handle:
        """Return the merged model: learned slots by the rule, the others from `own`. Contributions hold handles."""
        return self._noted(peer, requests.Merge(own, own_weight, received, at))

    def adopt(self, own: Handle, received: Sequence[Contribution]) -> Handle:
        """Return another peer's model with the slots that never travel taken from `own`; see `Learner.adopt`."""
        return self._noted(own.peer, requests.Adopt(own, received))

    def agreed(self, own: Handle, received: Sequence[Contribution]) -> Handle:
        """Return what most of the received models agree on; see `Learner.agreed`."""
        return self._noted(own.peer, requests.Agree(own, received))

    def graft(self, base: Handle, source: Handle, part: Part) -> Handle:
        """Return `base` with `part` of what travels taken from `source`."""
        return self._noted(base.peer, requests.Graft(base, source, part))

    def sent(self, model: Handle, peer: int, message: Message) -> Handle:
        """Return the model as the receivers of `peer`'s message will hold it; ask once for each message."""
        draws = Draws.of(message, seed=self.task.seed, peer=self.names[peer])
        return self._noted(peer, requests.Send(model, draws, message.piece or WHOLE))

    def moved(self, base: Handle, before: Handle, after: Handle) -> Handle:
        """Return `base` moved as an update has moved `before` to `after`; see `Learner.moved`."""
        return self._noted(base.peer, requests.Move(base, before, after))

    def craft(self, own: Handle, inputs: Sequence[Handle], function: Callable[[Tensor], Tensor]) -> Handle:
        """Return ``function(learned slots of the inputs (n, L)) -> [L]``, with all other slots of `own`."""
        return self._noted(own.peer, requests.Craft(own, inputs, function))

    @property
    def skipped(self) -> int:
        """Mini-batches of all peers whose gradient was not finite, so far."""
        return sum(self.watches.skipped)

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
        return self._arena.vectors.index_select(
            0, self._arena.indices([handle.row for handle in handles])
        ).cpu()

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
        # What remembers something: rules that are not linear, and a momentum that is kept.
        ordered: set[type] = {requests.Merge} if not self._merge_class.linear else set()
        if self._state.keeps("update"):
            ordered.add(requests.Train)
        if self._sending.remembers:
            ordered.add(requests.Send)
        levels = requests.levels(pending, ordered=ordered)
        del pending  # what nobody holds any more is to be freed on the way
        levels.reverse()
        while levels:
            level = levels.pop()
            for kind, compute in self._computations():
                if kind in level:
                    compute(level.pop(kind))

    def _noted(self, peer: int, request: requests.Request) -> Handle:
        handle = Handle(peer, request, self._free)
        self._pending.append(handle)
        if len(self._pending) >= self._pending_max:
            self.flush()
        return handle

    def _computations(self) -> list[tuple[type, Callable[[list[Handle]], None]]]:
        exchanges = self._exchanges
        return [
            (requests.Train, self._train_alone if self._training is None else self._train_stacked),
            (requests.Merge, exchanges.average if self._averages else exchanges.merge_alone),
            (requests.Adopt, exchanges.adopt),
            (requests.Agree, exchanges.agree),
            (requests.Graft, exchanges.graft),
            (requests.Send, self._sending.run),
            (requests.Move, exchanges.move),
            (requests.Craft, exchanges.craft),
        ]

    def _train_stacked(self, handles: list[Handle]) -> None:
        assert self._training is not None
        rank = self._minibatches.rank
        handles.sort(key=lambda handle: rank[handle.peer])
        rows = self._arena.take(len(handles))
        for start in range(0, len(handles), self._chunk):
            part = handles[start : start + self._chunk]
            peers, rounds = [handle.peer for handle in part], [handle.request.round for handle in part]
            outcome = self._training.run(
                self._arena.at([handle.request.own.row for handle in part]),
                peers,
                rounds,
                self._state.gather("update", peers),
            )
            self._arena.put(rows[start : start + len(part)], outcome.models)
            self.watches.trained(peers, rounds, outcome)
            self._state.scatter("update", peers, outcome.rows)
            for handle, row, loss in zip(part, rows[start : start + len(part)], outcome.losses, strict=True):
                handle.loss = loss
                if self._memories:
                    self._trained(handle)
                handle.place(row)

    def _train_alone(self, handles: list[Handle]) -> None:
        rows = self._arena.take(len(handles))
        for handle, row in zip(handles, rows, strict=True):
            own, round, _ = handle.request
            outcome = self._learner(handle.peer).train(self._arena.vectors[own.row], round=round)
            self._arena.vectors[row] = outcome.model
            self.watches.trained_alone(handle.peer, outcome)
            handle.loss = outcome.loss
            if self._memories:
                self._trained(handle)
            handle.place(row)

    def _learner(self, peer: int) -> Learner:
        process = self._processes[peer]
        if process.learner is None:
            process.learner = Learner(
                self.task,
                peer=self.names[peer],
                position=peer,
                peers=len(self.names),
                merge=self._merge_choice.load()(self._merge_choice),
                sanitise=self._sanitise,
                shard=self._shards.get(peer),
                device=self.device,
            )
        return process.learner


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
