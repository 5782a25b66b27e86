"""The gradient of one step: a mini-batch with all that `[local]` wraps its gradients in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gossip.learning.in_place import NORM_FLOOR, norm_of
from gossip.learning.losses import losses_of
from gossip.learning.private import refuse_losses
from gossip.learning.sam import perturbation

if TYPE_CHECKING:
    from gossip.learning.local_training import Gradient, LocalTraining


class StepGradient:
    """A mini-batch as the update sees it: a way from models to gradients, with SAM, clipping and weight decay."""

    def __init__(
        self,
        training: LocalTraining,
        gradient: Gradient,
        rest: Tensor,
        x: Tensor,
        y: Tensor,
        seed: int | None,
        stacked: bool,
    ) -> None:
        self._training = training
        self._gradient = gradient
        self._rest = rest
        self._x, self._y = x, y
        self._seed = seed
        self._stacked = stacked
        self.rest_after = rest
        self.loss = rest.new_full((), torch.nan)
        self.applied = torch.ones((), dtype=torch.bool, device=rest.device)
        self.asked = False
        """Whether the update has wanted to know anything of the mini-batch."""

    def losses(self, models: Tensor) -> Tensor:
        """Return the losses (n,) at trained slots (n, T), with nothing that leads back to a gradient."""
        refuse_losses(self._training)
        found = losses_of(self._training, models, self._rest, self._x, self._y, stacked=self._stacked)
        finite = found.isfinite()[:, None]
        if not self.asked:
            self.loss = found if self._stacked else found[0]
        self.applied = self.applied & finite if self.asked else finite
        self.asked = True
        return found

    def __call__(self, models: Tensor) -> Tensor:
        """Return the gradients (n, T) at trained slots (n, T); notes whether all that were asked for are finite.

        Loss and statistics are those of the first point that is asked for, at which the step begins.
        """
        settings = self._training.settings
        point = models if self._stacked else models[0]
        draws = self._training.draws
        draws.seed(self._seed, point)
        g, loss, rest_after = self._gradient(point, self._rest, self._x, self._y)
        if not self.asked:
            self.loss, self.rest_after = loss, rest_after
        if settings.sam_rho:
            draws.seed(self._seed, point)  # the same dropout mask as in the first pass
            # The second pass' statistics are dropped: they were measured at perturbed weights.
            g, _, _ = self._gradient(point + perturbation(settings, g, point), self._rest, self._x, self._y)
        norm = norm_of(g)
        finite = norm < torch.inf  # false for NaN, too
        self.applied = self.applied & finite if self.asked else finite
        self.asked = True
        if settings.clip_norm is not None:
            g = g * torch.clamp(settings.clip_norm / (norm + NORM_FLOOR), max=1.0)
        if settings.weight_decay and not self._training.update.decays_weights:
            g = torch.add(g, point, alpha=settings.weight_decay)
        return g if self._stacked else g[None]
