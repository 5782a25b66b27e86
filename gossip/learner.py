"""One peer's learning: train, merge and evaluate vectors. Synchronous; a node calls it from one worker thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from gossip import plugins
from gossip.draws import Draws
from gossip.errors import ProtocolMisuse
from gossip.fitting import check_merge, check_parts
from gossip.learning import devices
from gossip.learning.data.mapped import Samples
from gossip.learning.devices import Transfers
from gossip.learning.evaluation import Evaluation
from gossip.learning.private import budget_of
from gossip.learning.scales import Scales, scales_of
from gossip.learning.task import Shard, Task
from gossip.learning.trained import Trained, untrained
from gossip.merging import sanitise
from gossip.merging.agreement import agreed
from gossip.merging.base import Merge, MergeContext, Verdict
from gossip.merging.outcome import JUDGED_MAX, RecordedVerdict, blame, check_verdict, shares_memory
from gossip.merging.sanitise import Refusal, Sanitiser, SanitiseSettings
from gossip.outgoing.base import AsItIs, Outgoing, apart_by, sent_by
from gossip.partial import Partial, completed
from gossip.privacy.budget import Budget
from gossip.privacy.entropy import OPERATING_SYSTEM
from gossip.protocols.base import Contribution, GossipStep, Part, PeerId
from gossip.returned import check_tensor
from gossip.stages import PeerState, State

__all__ = ["Evaluation", "Learner", "RecordedVerdict", "Trained", "check_merge", "check_parts"]


class Learner:
    """The learning of one peer. No method changes its arguments but where it is allowed to; vectors come and go
    on the CPU.

    Args:
        task: what is learnt; may be shared by the learners of one process.
        peer: this peer's name; its batch order and dropout depend on it.
        position: its place among the sorted peers, which decides its shard.
        peers: how many there are.
        merge: this peer's own instance.
        sanitise: what is refused before the merge sees it.
        outgoing: what becomes of models before they are sent.
        shard: own samples, where they are not the partition's.
        counts: whether it counts itself what its local updates give away of its samples, under `[privacy]`.
        device: where training, sending's stages and evaluation compute; merges are the CPU's, where models arrive.

    Raises:
        UserError: the task's data, model or partition cannot be used.
    """

    def __init__(
        self,
        task: Task,
        *,
        peer: PeerId,
        position: int,
        peers: int,
        merge: Merge,
        sanitise: SanitiseSettings | None = None,
        outgoing: Outgoing | None = None,
        shard: Shard | None = None,
        counts: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        self.task = task
        self.peer = peer
        # With its number: "cuda" and "cuda:0" would be two places, with a network each.
        self.device = torch.empty(0, device=device).device
        devices.round_as_told(self.device)
        self._transfers = Transfers(self.device)
        self.shard = task.shard(position, peers) if shard is None else shard
        self._x: Samples = self.shard.x.to(
            self.device
        )  # mapped ones stay where they are until they are trained on
        self._y = self._transfers.there(self.shard.y)
        self._training = task.local_training(self.device)
        self.budget: Budget | None = budget_of(task, len(self.shard)) if counts else None
        """What its local updates may still give away of its samples; None: no `[privacy]`, or others count."""
        self._merge = merge
        self.sanitiser = Sanitiser(sanitise or SanitiseSettings(), task.space.learned_size)
        self._judged: list[RecordedVerdict] = []
        self.blamed: str | None = None
        """A clause, once the rule made numbers that are not finite of models that are."""
        check_merge(task, merge)
        judging = task.validation(position, peers)
        self._x_validation = None if judging is None else judging.x[:]
        self._y_validation = None if judging is None else judging.y
        self.own_test = task.own_test(position, peers)
        """Own samples that it keeps to be tested on; None where it keeps none."""
        self.classes: tuple[int, ...] = (
            tuple(torch.unique(self.shard.y).tolist()) if task.objective.classifies else ()
        )
        """Those that it has training samples of, ascending; none where the objective has none."""
        self._outgoing = outgoing or AsItIs()
        stages = {"update": self._training.stage, "outgoing": self._outgoing}
        self.state = PeerState(stages, task.space, device=self.device)
        """What this peer remembers between local updates."""

    def initial(self, *, independent: bool | None = None) -> Tensor:
        """Return the model [P] of round 0: common to all peers, or this peer's own draw; default: as `[model]` says."""
        return self.task.initial_of(self.peer, independent=independent)

    def train(
        self,
        model: Tensor,
        *,
        round: int,
        steps: int | None = None,
        in_place: bool = False,
        rows: State | None = None,
    ) -> Trained:
        """Return the outcome of one local update of `model` [P], of so many `steps` instead of what `[local]` says.

        A pure function of its arguments, and of what the update remembers of the last one: `state`, or `rows`, each
        (1, length), where the caller keeps them, who may find them written over and has them back in the outcome; but
        under `[privacy]` of chance, too, and where the `budget` does not allow for it the model stays as it is. With
        `in_place` nobody needs `model` any more, the merge rule included (`trains_in_place`): the outcome lies there.
        """
        self._check(model)
        if self.budget is not None and not self.budget.spend(steps):
            return untrained(model, round=round)
        start = self._transfers.there(model)
        trained = self._training.run(
            model.clone() if start is model and not in_place else start,
            self._x,
            self._y,
            seed=self.task.seed,
            peer=self.peer,
            round=round,
            rows=self.state.gather("update", [0]) if rows is None else rows,
            steps=steps,
            in_place=True,
        )
        trained = replace(trained, model=self._transfers.back(trained.model))
        if rows is not None:
            return trained
        self.state.scatter("update", [0], trained.rows)
        return replace(trained, rows={})

    @property
    def shapes_outgoing(self) -> bool:
        """Whether what is sent is another model than the own."""
        return not self._outgoing.nothing

    @property
    def sends_each(self) -> bool:
        """Whether each neighbour is sent another model."""
        return self._outgoing.to_each

    def apart(self, weights: Mapping[PeerId, float]) -> dict[PeerId, Tensor]:
        """Return what is added to the learned slots [L] of one message, for each neighbour that weighs it so."""
        length = self.task.space.learned_size
        with plugins.blamed(self._outgoing, "[outgoing]"):
            apart = apart_by(self._outgoing, length, list(weights.values()), OPERATING_SYSTEM)
        return dict(zip(weights, apart, strict=True))

    def outgoing(self, learned: Tensor, draws: Draws) -> Tensor:
        """Return what is sent for the learned slots [L], once per message."""
        if self._outgoing.nothing:
            return learned
        rows = self.state.gather("outgoing", [0])
        with plugins.blamed(self._outgoing, "[outgoing]"):
            models = self._transfers.there(learned)[None]
            sent, rows = sent_by(self._outgoing, models, rows, [draws])
        self.state.scatter("outgoing", [0], rows)
        return self._transfers.back(sent[0])

    @property
    def trains_in_place(self) -> bool:
        """Whether models that came of merges may be overwritten: the rule keeps none of what it was given."""
        return not self._merge.retains

    def merge(
        self,
        own: Tensor,
        own_weight: float,
        received: Sequence[Contribution],
        *,
        at: GossipStep,
        declared: Mapping[PeerId, frozenset[int]] | None = None,
        spent: frozenset[PeerId] = frozenset(),
    ) -> Tensor:
        """Return the merged model [P]: learned slots by the rule, the others from `own`.

        Args:
            own: own model [P].
            own_weight: W_ii.
            received: contributions whose `model` holds learned slots [L], with weights W_ij, or some of them: the
                others are own.
            at: the gossip step. Outside its part, the contributions have what `own` has.
            declared: the classes of which senders say that they have samples, where the rule wants to know.
            spent: senders whose models nobody needs any more: the merged one may lie in the memory of one.
        """
        self._check(own)
        learned_size = self.task.space.learned_size
        refusals = self._refusals(own[:learned_size], received, round=at.round)
        own_weight, accepted = sanitise.without(own_weight, received, refusals)
        spent |= {each.sender for each in accepted if isinstance(each.model, Partial)}
        accepted = [each._replace(model=completed(own[:learned_size], each.model)) for each in accepted]
        with plugins.blamed(self._merge, f"[merge] in round {at.round}:"):
            merged = self._merge(
                own[:learned_size],
                own_weight,
                accepted,
                context=self._context(
                    own,
                    at=at,
                    rejected=len(received) - len(accepted),
                    declared=declared or {},
                    spent=spent,
                ),
            )
            check_tensor(merged, (learned_size,), "returns for a model")
        if self.blamed is None:
            models = [own[:learned_size]] if own_weight else []
            models += [each.model for each in accepted]
            self.blamed = blame(self._merge, merged, models, round=at.round + 1)
        if learned_size != len(own):
            return torch.cat([merged, own[learned_size:]])
        # A rule that returns what it was given, though it must not, would have others' transfers overwritten later.
        needed = [own, *(each.model for each in accepted if each.sender not in spent)]
        return merged.clone() if any(shares_memory(merged, each) for each in needed) else merged

    def adopt(self, own: Tensor, received: Sequence[Contribution]) -> Tensor:
        """Return a received model [P] with the slots that never travel taken from `own`.

        The first of `received` that a merge would see, or a copy of `own`.
        """
        self._check(own)
        learned_size = self.task.space.learned_size
        for each, refusal in zip(received, self._refusals(own[:learned_size], received), strict=True):
            if refusal is None:
                return torch.cat([completed(own[:learned_size], each.model), own[learned_size:]])
        return own.clone()

    def agreed(self, own: Tensor, received: Sequence[Contribution]) -> Tensor:
        """Return the model [P] that most of `received` agree on, with the slots that never travel taken from `own`."""
        self._check(own)
        learned = own[: self.task.space.learned_size]
        refusals = self._refusals(learned, received, bounded=False)
        accepted = [
            completed(learned, each.model)
            for each, refusal in zip(received, refusals, strict=True)
            if refusal is None
        ]
        return torch.cat([agreed(learned, accepted), own[len(learned) :]])

    def graft(self, base: Tensor, source: Tensor, part: Part) -> Tensor:
        """Return `base` [P] with `part` of what travels taken from `source`: a model, [L] or [P], or only that part."""
        self._check(base)
        start, stop = part.bounds(self.task.space.learned_size)
        piece = source if len(source) == stop - start else source[start:stop]
        return torch.cat([base[:start], piece, base[stop:]])

    def moved(
        self, base: Tensor, before: Tensor, after: Tensor, *, rate: float = 1.0, in_place: bool = False
    ) -> Tensor:
        """Return base + rate · (after - before), of models [P]; the slots that never travel are those of `after`.

        With `in_place` nobody needs `after` any more: the outcome lies there.
        """
        self._check(base)
        learned_size = self.task.space.learned_size
        moved = after if in_place else after.clone()
        difference = moved[:learned_size].sub_(before[:learned_size])
        if rate != 1:
            difference.mul_(rate)
        difference.add_(base[:learned_size])
        return moved

    def take_judged(self) -> list[RecordedVerdict]:
        """Return what has become of received models since the last call, in the order in which it did."""
        judged, self._judged = self._judged, []
        return judged

    def _refusals(
        self,
        own: Tensor,
        received: Sequence[Contribution],
        *,
        round: int | None = None,
        bounded: bool = True,
    ) -> list[Refusal | None]:
        if not received:
            return []
        sanitiser = self.sanitiser
        refusals = sanitiser.judge(
            sanitise.norm_of(own),
            sanitise.norms_of(own, received),
            round=round,
            again=sanitise.judged_before(received),
            some=sanitise.some_of(own, received),
            bounded=bounded,
        )
        for refusal in refusals:
            if refusal is not None:
                self._note(sanitiser.round, refusal)
        return refusals

    def _note(self, round: int, verdict: Refusal | Verdict) -> None:
        if len(self._judged) < JUDGED_MAX:
            self._judged.append(RecordedVerdict(round, verdict))

    def evaluate(self, model: Tensor) -> Evaluation:
        """Return loss and score of `model` [P] on the common test set, and on own test samples where it keeps some.

        With ``batch_norm = "reestimate"`` its running statistics are first measured anew on own samples.
        """
        model = self._transfers.there(self.evaluated(model))
        tested = self.task.evaluate(model)
        if self.own_test is None:
            return tested
        own = self.task.evaluate(model, self.own_test.x, self._transfers.there(self.own_test.y))
        return replace(tested, own=own)

    def own_score(self, model: Tensor, tested: Evaluation) -> Evaluation:
        """Return how `model` [P] does on own validation samples; where none are set aside, how it was `tested`."""
        if self._x_validation is None:
            return tested
        return self.task.evaluate(
            self._transfers.there(self.evaluated(model)), self._x_validation, self._y_validation
        )

    def evaluated(self, model: Tensor) -> Tensor:
        """Return the model [P] that `evaluate` judges: `model` itself, or with statistics measured anew."""
        self._check(model)
        if self.task.model_settings.batch_norm != "reestimate":
            return model
        return self._transfers.back(self.task.reestimated(self._transfers.there(model), self._x))

    @cached_property
    def scales(self) -> Scales:
        """How large own samples are, as the network takes them."""
        return scales_of(self.shard.x)

    @property
    def declares_classes(self) -> bool:
        """Whether models are to be sent with `classes`, because the rule of the run wants to know them."""
        return self._merge.declares_classes

    def _context(
        self,
        own: Tensor,
        *,
        at: GossipStep,
        rejected: int,
        declared: Mapping[PeerId, frozenset[int]],
        spent: frozenset[PeerId],
    ) -> MergeContext:
        space = self.task.space

        def predict(learned: Tensor, x: Tensor) -> Tensor:
            forward, there = self.task.forward_on(self.device), self._transfers.there
            forward.module.eval()
            trained = torch.cat([learned, own[space.learned_size : space.trained_size]])
            with torch.no_grad():
                return forward(there(trained), there(own[space.trained_size :]), there(x)).cpu()

        def judge(verdict: Verdict) -> None:
            check_verdict(verdict)
            self._note(at.round, verdict)

        return MergeContext(
            peer=self.peer,
            seed=self.task.seed,
            at=at,
            space=space,
            x=self.shard.x,
            y=self.shard.y,
            predict=predict,
            loss=self.task.objective.loss,
            rejected=rejected,
            judge=judge,
            x_validation=self._x_validation,
            y_validation=self._y_validation,
            declared=declared,
            spent=spent,
        )

    def _check(self, model: Tensor) -> None:
        if model.shape != (self.task.space.size,) or model.dtype is not torch.float32:
            raise ProtocolMisuse(
                f"a model of shape {tuple(model.shape)} and {model.dtype}; expected ({self.task.space.size},) float32"
            )
