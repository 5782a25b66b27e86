"""The steps of one model's local update, one mini-batch after another: in its own memory, or each into a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gossip.learning.in_place import AdamWInPlace, Done, InPlaceTraining
from gossip.learning.updates.adamw import AdamW

if TYPE_CHECKING:
    from gossip.learning.local_training import LocalState, LocalTraining
    from gossip.learning.private import PrivateUpdate


class InPlaceSteps:
    """Heavy-ball steps, or AdamW's, where the model lies."""

    def __init__(self, training: LocalTraining, model: Tensor, state: LocalState, round: int) -> None:
        self.state = state
        what = (training.forward, training.settings, training.passes, model)
        update = training.update
        self._training: InPlaceTraining
        if isinstance(update, AdamW):
            self._training = AdamWInPlace(*what, update, state.rows, training.draws)
        else:
            velocity = state.rows["velocity"][0] if "velocity" in state.rows else None
            self._training = InPlaceTraining(*what, velocity, training.draws)
        self._lr = torch.tensor(training.lr(round), dtype=torch.float32, device=model.device)

    def step(self, x: Tensor, y: Tensor, seed: int | None) -> Done:
        """Do one step on one mini-batch."""
        return self._training.step(x, y, self._lr, seed=seed)


class FunctionalSteps:
    """The steps of any update, each into memory of its own."""

    def __init__(
        self,
        training: LocalTraining,
        state: LocalState,
        round: int,
        private: PrivateUpdate | None = None,
    ) -> None:
        self.state = state
        self._training = training
        self._private = private
        self._lr = torch.tensor(training.lr(round), dtype=torch.float32, device=state.trained.device)

    def step(self, x: Tensor, y: Tensor, seed: int | None) -> Done:
        """Do one step on one mini-batch."""
        gradient = None if self._private is None else self._private.gradient()
        result = self._training.step(self.state, x, y, self._lr, seed=seed, gradient=gradient)
        self.state = result.state
        return Done(float(result.loss), bool(result.applied))
