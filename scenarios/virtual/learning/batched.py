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

from gossip.errors import ProtocolMisuse
from gossip.learner import Learner, RecordedVerdict, check_merge
from gossip.learning.divergence import rms_of
from gossip.learning.evaluation import Evaluation
from gossip.learning.models import MODELS
from gossip.learning.private import budgets_of
from gossip.learning.task import Shard, Task
from gossip.merging.base import Merge
from gossip.merging.sanitise import SanitiseSettings
from gossip.outgoing.base import Outgoing
from gossip.outgoing.settings import NoOutgoingSettings
from gossip.protocols.base import Contribution, GossipStep, Message, Part, PeerId
from gossip.settings import Choice
from gossip.stages import PeerState, Stage
from gossip.wire.codecs.settings import Float32Settings
from gossip.wire.tensors import TensorSpec
from gossip.wire.wholes import Turn
from scenarios.virtual.learning import methods, requests
from scenarios.virtual.learning.arena import Arena, Handle
from scenarios.virtual.learning.corrections import Corrections
from scenarios.virtual.learning.deferred import Deferred
from scenarios.virtual.learning.devices import usable_device
from scenarios.virtual.learning.divergence import Watches
from scenarios.virtual.learning.evaluation import StackedEvaluation
from scenarios.virtual.learning.exchanges import Exchanges
from scenarios.virtual.learning.linear_stack import LinearStack
from scenarios.virtual.learning.local_updates import LocalUpdates
from scenarios.virtual.learning.minibatches import MiniBatches
from scenarios.virtual.learning.processes import Processes
from scenarios.virtual.learning.publics import Publics
from scenarios.virtual.learning.remembering import Memory, Remembering
from scenarios.virtual.learning.screening import Screen
from scenarios.virtual.learning.sending import Sending
from scenarios.virtual.learning.training import StackedTraining
from scenarios.virtual.learning.workers import Workers


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
        workers: who computes local updates and evaluations; default: this process.
        evaluated: at most so many samples models will be evaluated on in the run; decides whether workers pay.

    Raises:
        UserError: the task's data, model, partition or device cannot be used; `method` is unknown or does not suit.
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
        workers: Workers | None = None,
        evaluated: int = 0,
    ) -> None:
        self.workers = workers or Workers()
        self.task, self.names = task, tuple(names)
        self.device = usable_device(device)
        sizes = list(map(len, task.partition(len(names))))
        task.shard(sizes.index(min(sizes)), len(names))  # says so where it is too small
        self._merge_choice = merge
        self._merge_class: type[Merge] = merge.load()
        self._sanitise = sanitise or SanitiseSettings()
        self._shards = dict(shards or {})
        self.on_judged: Callable[[int, RecordedVerdict], None] = lambda peer, judged: None
        """Told (peer, what became of a model it received); when the merge is computed, which may be much later."""
        self._processes = Processes(self._learner)
        self.blamed = self._processes.blamed
        example: Merge = merge.load()(merge)
        check_merge(task, example)
        self.declares = example.declares_classes
        """Whether models are sent with the classes that the sender has samples of."""
        self.declared: dict[PeerId, frozenset[int]] = (
            {name: self._familiar(position) for position, name in enumerate(names)} if self.declares else {}
        )
        """What each peer declares; by the simulation's attackers to be changed."""
        self._common = task.initial()
        self._trainings = [0] * len(names)
        self._set_up_training(method, max(sizes), outgoing or NoOutgoingSettings(), evaluated)
        self._set_up_exchanges(codec or Float32Settings(), attackers)
        self.deferred = self._defer()

    def _set_up_training(self, method: str, samples_max: int, outgoing: Choice, evaluated: int) -> None:
        """Choose how local updates and evaluations are computed, and make the table of what they remember."""
        task, names = self.task, self.names
        batch_size = min(task.local_settings.batch_size, samples_max)
        self.method, self.reason = methods.choose(task, method, device=self.device, batch_size=batch_size)
        self._chunk = methods.stack_size(
            task, self.method, device=self.device, batch_size=batch_size, peers=len(names)
        )
        stack = LinearStack.of(task.module, task.space) if self.method == "linear-stack" else None
        self._minibatches = MiniBatches(
            task,
            names,
            # Of a user's network nobody knows whether samples act on each other.
            pad=stack is not None or (task.objective.plain and task.model_settings.name in MODELS),
            device=self.device,
            shards=self._shards,
        )
        self.watches = Watches(
            len(names),
            chance=task.objective.chance(task.dataset.classes),
            rms=rms_of(self._common[: task.space.learned_size]),
        )
        samples = sum(map(self._minibatches.samples, range(len(names))))
        parts = -(-len(names) // (1 if self.method == "loop" else self._chunk))
        self.workers.settle(self.device, parts, methods.work(task, samples, evaluated))
        rows = 2 * len(names) + 8
        shared = self.workers.rows(rows, task.space.size)
        self._arena = Arena(task.space.size, rows=rows, device=self.device, shared=shared)
        local = task.local_training(self.device)
        self._outgoing: Outgoing = outgoing.load()(outgoing)
        stages: dict[str, Stage] = {"outgoing": self._outgoing, "update": local.stage}
        stacked = (
            None if (alone := self.method == "loop") else StackedTraining.of(local, self._minibatches, stack)
        )
        self.budgets = budgets_of(task, [plan.samples for plan in self._minibatches.plans])
        learner_of, workers = self._processes.learner, self.workers
        self._evaluation = StackedEvaluation(
            task, self._arena, stack, learner_of, workers, chunk=self._chunk, alone=alone
        )
        self._state = PeerState(
            stages, task.space, peers=len(names), device=self.device, zeros=self.workers.zeros
        )
        self.remembers = not self._state.empty
        """Whether peers remember anything beside their models that a checkpoint has to hold."""
        self._remembering = Remembering(self._state)
        self._updates = LocalUpdates(
            self._arena,
            stacked,
            self._minibatches,
            self.watches,
            self._state,
            self._remembering,
            learner_of=learner_of,
            workers=workers,
            chunk=self._chunk,
            budgets=self.budgets,
        )

    def _set_up_exchanges(self, codec: Choice, attackers: Collection[int]) -> None:
        """Make what computes everything between two local updates."""
        learned, arena, chunk = self.task.space.learned_size, self._arena, self._chunk

        def tell(peer: int, judged: RecordedVerdict) -> None:
            self.on_judged(peer, judged)

        coding = codec.load()(codec)
        self._told = PeerState({"codec": coding}, self.task.space, peers=len(self.names), device=self.device)
        self._sending = Sending(
            arena,
            self._outgoing,
            coding,
            self._state,
            self._told,
            unshaped=attackers,
            learned=learned,
            chunk=chunk,
        )
        self._publics = Publics(self._sending, self._noted, self.names, seed=self.task.seed)
        self.varies = self._sending.varies
        """Whether only a model's numbers tell how many bytes it takes."""
        self.codes, self.sends_each = self._sending.needed, self._outgoing.to_each
        """Whether receivers hold anything else of a model than its sender has, and whether each holds another."""
        self.reference = self._sending.reference
        """What receivers must hold to use what comes: "none", "own" or "link"."""
        rule = self._merge_class.correction(self._merge_choice, self.task.space)
        self._averages = self._merge_class.linear or rule is not None
        corrections = (
            None if rule is None else Corrections(rule, self._processes, arena, learned, chunk=chunk)
        )
        self._exchanges = Exchanges(
            arena,
            Screen(self._sanitise, arena, self._processes, learned_size=learned, chunk=chunk, tell=tell),
            learned=learned,
            chunk=chunk,
            rank=self._minibatches.rank,
            corrections=corrections,
            learner_of=self._processes.learner,
            retains=self._merge_class.retains,
            declared=self.declared,
            tell=tell,
        )

    def _familiar(self, peer: int) -> frozenset[int]:
        """Return the classes of a peer's own samples."""
        if not self.task.objective.classifies:
            return frozenset()
        if peer in self._shards:
            return frozenset(torch.unique(self._shards[peer].y).tolist())
        return frozenset(self.task.familiar(peer, len(self.names)))

    def initial(self, peer: int, *, independent: bool | None = None) -> Handle:
        """Return the model of round 0: common to all peers, or the peer's own draw; default: as `[model]` says."""
        own = self.task.starts_apart if independent is None else independent
        return self.from_vector(self.task.initial(self.names[peer]) if own else self._common, peer)

    def from_vector(self, vector: Tensor, peer: int) -> Handle:
        """Return a handle for a copy of `vector` [P], for instance from a checkpoint."""
        size = self.task.space.size
        if vector.shape != (size,):
            raise ProtocolMisuse(f"a vector of shape {tuple(vector.shape)}; expected ({size},)")
        return self._arena.handle_of(vector.to(self.device), peer)

    def train(self, model: Handle, peer: int, *, round: int, steps: int | None = None) -> Handle:
        """Return `model` as one local update of `peer` will leave it; of so many steps, if `[local]` is not to say."""
        self._trainings[peer] += 1
        return self.deferred.note(peer, requests.Train(model, round, self._trainings[peer], steps))

    def begin_anew(self, peer: int) -> None:
        """Forget all that the peer has beside models, for its process has ended: momentum, rule, muted senders."""
        if self.deferred.waits_for(peer):
            self.flush()  # what it asked for before still sees all that
        self._processes.pop(peer, None)
        self._state.zero(peer)
        self._told.zero(peer)
        self._publics.begin_anew(peer)

    def remember(self, peer: int) -> Memory:
        """Return what the peer remembers after the local updates that it has asked for, for its checkpoint."""
        pending = self.deferred.waits_for(peer, requests.Train)
        return self._remembering.remember(peer, self._trainings[peer], pending=pending)

    def restore(self, peer: int, memory: Memory) -> None:
        """Take over what a checkpoint holds; after `begin_anew`."""
        if memory.rows is None:
            self.flush()
        self._remembering.restore(peer, memory)

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
        if not self._sending.own_coded or at.whole:
            return self.deferred.note(peer, requests.Merge(own, own_weight, received, at))
        public = self._publics.mixed(own, peer, at)
        merged = self._noted(peer, requests.Merge(public or own, own_weight, received, at))
        if public is None:
            return merged  # nobody holds anything of it yet
        return self._noted(peer, requests.Move(own, public, merged, self._sending.rate))

    def adopt(self, own: Handle, received: Sequence[Contribution]) -> Handle:
        """Return another peer's model with the slots that never travel taken from `own`; see `Learner.adopt`."""
        return self._noted(own.peer, requests.Adopt(own, received))

    def agreed(self, own: Handle, received: Sequence[Contribution]) -> Handle:
        """Return what most of the received models agree on; see `Learner.agreed`."""
        return self._noted(own.peer, requests.Agree(own, received))

    def graft(self, base: Handle, source: Handle, part: Part) -> Handle:
        """Return `base` with `part` of what travels taken from `source`."""
        return self._noted(base.peer, requests.Graft(base, source, part))

    def shaped(self, model: Handle, peer: int, message: Message, *, to: requests.To | None = None) -> Handle:
        """Return what `peer`'s message has before it is coded; ask once, or for each neighbour where `sends_each`."""
        return self._publics.shaped(model, peer, message, to)

    def coded(self, shaped: Handle, peer: int, message: Message, turn: Turn) -> Handle:
        """Return what comes of it to those who get it coded; ask once for each message."""
        return self._publics.coded(shaped, peer, message, turn)

    def specs_sent(self, peer: int) -> tuple[TensorSpec, ...]:
        """Return the tensors of the model that the peer sent last; what is outstanding is computed."""
        self.flush()
        return self._publics.sent_last(peer).specs

    def sent(self, model: Handle, peer: int, message: Message) -> Handle:
        """Return the model as the receivers of `peer`'s message hold it, where none has to go whole."""
        return self.coded(self.shaped(model, peer, message), peer, message, Turn(0, False))

    def moved(self, base: Handle, before: Handle, after: Handle) -> Handle:
        """Return `base` moved as an update has moved `before` to `after`; see `Learner.moved`."""
        return self._noted(base.peer, requests.Move(base, before, after))

    def craft(self, own: Handle, inputs: Sequence[Handle], function: Callable[[Tensor], Tensor]) -> Handle:
        """Return ``function(learned slots of the inputs (n, L)) -> [L]``, with all other slots of `own`."""
        return self._noted(own.peer, requests.Craft(own, inputs, function))

    def samples(self, peer: int) -> int:
        """Return how many samples a local update of `peer` sees, repetitions counted."""
        return self._minibatches.samples(peer)

    def vector(self, handle: Handle) -> Tensor:
        """Return a copy of the model [P] on the CPU."""
        return self.stack([handle])[0]

    def stack(self, handles: Sequence[Handle]) -> Tensor:
        """Return copies of the models (n, P) on the CPU."""
        self.flush()
        rows = self._arena.indices([handle.row for handle in handles])
        return self._arena.vectors.index_select(0, rows).cpu()

    def loss(self, handle: Handle) -> float:
        """Return the mean training loss of a handle that `train` returned; NaN where every step was skipped."""
        self.flush()
        if handle.loss is None:
            raise ProtocolMisuse(f"{handle} is no trained model and has no training loss")
        return handle.loss

    def evaluate(self, handles: Sequence[Handle]) -> list[Evaluation]:
        """Return loss and score of each model on the common test set, as `Learner.evaluate` does."""
        self.flush()
        return self._evaluation.run(handles)

    def evaluate_on(self, handle: Handle, samples: Shard) -> Evaluation:
        """Return loss and score of a model on a peer's own samples, as `Learner.own_score` does."""
        self.flush()
        return self._evaluation.on(handle, samples)

    @property
    def rows_used(self) -> int:
        """How many vectors are kept at the moment."""
        return self._arena.rows_used

    def flush(self) -> None:
        """Compute everything that was asked for."""
        self.deferred.flush()

    def _noted(self, peer: int, request: requests.Request) -> Handle:
        return self.deferred.note(peer, request)

    def _defer(self) -> Deferred:
        """Return what takes requests, and knows who computes those of each kind, in which order within a level."""
        exchanges, linear = self._exchanges, self._merge_class.linear
        # Rules that are not linear, and a momentum that is kept.
        remembers = {requests.Merge: not linear, requests.Train: self._state.keeps("update")}
        ordered = self._sending.ordered | {kind for kind, does in remembers.items() if does}
        return Deferred(
            {
                requests.Train: self._updates.run,
                requests.Merge: exchanges.average if self._averages else exchanges.merge_alone,
                requests.Adopt: exchanges.adopt,
                requests.Agree: exchanges.agree,
                requests.Graft: exchanges.graft,
                requests.Shape: self._sending.shape,
                requests.Send: self._sending.run,
                requests.Move: exchanges.move,
                requests.Craft: exchanges.craft,
            },
            ordered=ordered,
            peers=len(self.names),
            free=self._arena.free,
        )

    def _learner(self, peer: int) -> Learner:
        """Return what learns for a peer alone."""
        return Learner(
            self.task,
            peer=self.names[peer],
            position=peer,
            peers=len(self.names),
            merge=self._merge_choice.load()(self._merge_choice),
            sanitise=self._sanitise,
            shard=self._shards.get(peer),
            counts=False,
            device=self.device,
        )
