"""One peer's learning: train, merge and evaluate vectors. Synchronous; a node calls it from one worker thread."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gossip.errors import ProtocolMisuse
from gossip.learning.local_update import Trained
from gossip.learning.task import Evaluation, Task
from gossip.merging.base import Merge, MergeContext
from gossip.protocols.base import Contribution, PeerId

__all__ = ["Evaluation", "Learner", "Trained"]


class Learner:
    """The learning of one peer. No method changes its arguments; vectors come and go on the CPU.

    Args:
        task: what is learnt; may be shared by the learners of one process.
        peer: this peer's name; its batch order and dropout depend on it.
        position: its place among the sorted peers, which decides its shard.
        peers: how many there are.
        merge: this peer's own instance.
        device: where training, merging and evaluation compute.

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
        device: torch.device | str = "cpu",
    ) -> None:
        self.task = task
        self.peer = peer
        self.device = torch.device(device)
        self.shard = task.shard(position, peers)
        self._x, self._y = self.shard.x.to(self.device), self.shard.y.to(self.device)
        self._update = task.local_update(self.device)
        self._merge = merge

    def initial(self, *, independent: bool | None = None) -> Tensor:
        """Return the model [P] of round 0: common to all peers, or this peer's own draw; default: as `[model]` says."""
        return self.task.initial_of(self.peer, independent=independent)

    def train(self, model: Tensor, *, round: int) -> Trained:
        """Return the outcome of one local update of `model` [P]; a pure function of (model, round)."""
        self._check(model)
        trained = self._update.run(
            model.to(self.device), self._x, self._y, seed=self.task.seed, peer=self.peer, round=round
        )
        if self.device.type == "cpu":
            return trained
        return Trained(
            model=trained.model.cpu(),
            loss=trained.loss,
            samples=trained.samples,
            steps=trained.steps,
            skipped=trained.skipped,
        )

    def merge(
        self,
        own: Tensor,
        own_weight: float,
        received: Sequence[Contribution],
        *,
        round: int,
        step: int = 0,
        last: bool = True,
    ) -> Tensor:
        """Return the merged model [P]: learned slots by the rule, the others from `own`.

        Args:
            own: own model [P].
            own_weight: W_ii.
            received: contributions whose `model` holds learned slots [L], with weights W_ij.
            round: the round.
            step: the gossip step within the round.
            last: whether training follows, not another gossip step.
        """
        self._check(own)
        learned_size = self.task.space.learned_size
        on_device = own.to(self.device)
        merged = self._merge(
            on_device[:learned_size],
            own_weight,
            [Contribution(each.sender, each.model.to(self.device), each.weight) for each in received],
            context=self._context(on_device, round=round, step=step, last=last),
        ).cpu()
        return merged if learned_size == len(own) else torch.cat([merged, own[learned_size:]])

    def adopt(self, own: Tensor, learned: Tensor) -> Tensor:
        """Return `learned` [L], another peer's, with the slots that never travel taken from `own` [P]."""
        self._check(own)
        learned_size = self.task.space.learned_size
        if learned.shape != (learned_size,):
            raise ProtocolMisuse(
                f"adopting a vector of shape {tuple(learned.shape)}; expected ({learned_size},)"
            )
        return torch.cat([learned, own[learned_size:]])

    def evaluate(self, model: Tensor) -> Evaluation:
        """Return loss and accuracy of `model` [P] on the common test set.

        With ``batch_norm = "reestimate"`` its running statistics are first measured anew on own samples.
        """
        return self.task.evaluate(self.evaluated(model).to(self.device))

    def evaluated(self, model: Tensor) -> Tensor:
        """Return the model [P] that `evaluate` judges: `model` itself, or with statistics measured anew."""
        self._check(model)
        if self.task.model_settings.batch_norm != "reestimate":
            return model
        return self.task.reestimated(model.to(self.device), self._x).cpu()

    def _context(self, own: Tensor, *, round: int, step: int, last: bool) -> MergeContext:
        space = self.task.space

        def predict(learned: Tensor, x: Tensor) -> Tensor:
            forward = self.task.forward_on(self.device)
            forward.module.eval()
            trained = torch.cat([learned, own[space.learned_size : space.trained_size]])
            with torch.no_grad():
                return forward(trained, own[space.trained_size :], x)

        return MergeContext(
            peer=self.peer,
            seed=self.task.seed,
            round=round,
            step=step,
            last=last,
            space=space,
            x=self._x,
            y=self._y,
            predict=predict,
        )

    def _check(self, model: Tensor) -> None:
        if model.shape != (self.task.space.size,) or model.dtype is not torch.float32:
            raise ProtocolMisuse(
                f"a model of shape {tuple(model.shape)} and {model.dtype}; expected ({self.task.space.size},) float32"
            )
