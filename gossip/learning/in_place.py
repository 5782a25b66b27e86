"""The local step for one model in its own memory: what a node trains with, flat in the number of steps.

`LocalTraining.step` says what a step is; this is the same step, bit by bit, for models as large as memory allows. Each
line of it changes a vector where it lies. Beside the model [P] there are, at most, over the trained slots [T]:

    the gradient g, one tensor per slot, as autograd made it
    v with momentum
    AdamW's two moments
    y + δ with SAM, in the memory that first held g as one vector; it is read only while g~ is computed

Adaptive SAM's |y| + η is never there as a whole: it is made anew, block by block, where it is multiplied by.

A gradient never lies beside a copy of itself: where one norm over all slots is wanted to the bit (SAM, clipping), g is
joined in the memory that y + δ has anyway; elsewhere only whether it is finite matters, and norms of slots tell that.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gossip.learning.forward import Forward
from gossip.learning.generators import NONE, Generators
from gossip.learning.passes import Passes
from gossip.learning.settings import LocalSettings
from gossip.learning.updates import adamw
from gossip.stages import State

NORM_FLOOR = 1e-12
"""Added to the gradient's norm so that g = 0 gives δ = 0. Underflows in float16; vectors are float32."""


BLOCK = 1 << 18
"""Entries of |y| + η at a time: a megabyte, which stays in the cache."""


@dataclass(frozen=True, slots=True)
class Done:
    """What is kept of a step: two plain numbers."""

    loss: float
    """Mean over the mini-batch at y; may be NaN where skipped."""
    applied: bool
    """False where the gradient was not finite: nothing has changed then."""


class InPlaceTraining:
    """Trains `model` [P] where it lies, and `velocity` [T] with it.

    Args:
        forward: the network as a function of its tensors.
        settings: step size and so on.
        passes: forward and backward of the network with its loss.
        model: [P], contiguous; nobody else may read it meanwhile.
        velocity: the heavy-ball buffer to begin with [T]; None: zeros, where there is momentum.
        draws: which generators the network draws from; each pass is then seeded.
    """

    def __init__(
        self,
        forward: Forward,
        settings: LocalSettings,
        passes: Passes,
        model: Tensor,
        velocity: Tensor | None = None,
        draws: Generators = NONE,
    ) -> None:
        split = forward.space.trained_size
        self._forward = forward
        self._settings = settings
        self._passes = passes
        self._draws = draws
        self._trained = model[:split]
        self._rest = model[split:]
        self._slots = forward.pieces(self._trained)
        if settings.momentum and velocity is None:
            velocity = torch.zeros_like(self._trained)
        self.velocity = velocity if settings.momentum else None
        self._velocities = [] if self.velocity is None else forward.pieces(self.velocity)
        self._joined: Tensor | None = None  # (T,)
        self._perturbed: list[Tensor] = []

    def step(self, x: Tensor, y: Tensor, lr: Tensor, *, seed: int | None = None) -> Done:
        """Do one step on one mini-batch; `x` (b, *input_shape), `y` (b,), `lr` (), `seed`: see `LocalTraining.step`."""
        settings = self._settings
        loss, rest, gradients = self._gradients(self._slots, x, y, seed)
        if settings.sam_rho:
            perturbed = self._join(gradients)
            del gradients
            self._perturb(perturbed)
            self._perturbed = self._perturbed or self._forward.pieces(perturbed)
            # The same dropout mask; the second pass' statistics were measured at perturbed weights and are dropped.
            _, _, gradients = self._gradients(self._perturbed, x, y, seed)
        if settings.clip_norm is None:
            norm = norm_of(torch.stack(torch._foreach_norm(gradients)))
        else:
            norm = norm_of(self._join(gradients))
        if not bool(norm < torch.inf):  # NaN, too
            return Done(loss, False)
        if settings.clip_norm is not None:
            scale = torch.clamp(settings.clip_norm / (norm + NORM_FLOOR), max=1.0)
            for g in gradients:
                g.mul_(scale)
        self._move(gradients, lr)
        if self._forward.updates_rest:
            self._rest.copy_(rest)
        return Done(loss, True)

    def _move(self, gradients: list[Tensor], lr: Tensor) -> None:
        """Do what the update makes of a gradient, by slots, whose memory is spent then."""
        settings = self._settings
        if settings.weight_decay:
            torch._foreach_add_(gradients, self._slots, alpha=settings.weight_decay)
        if settings.momentum:
            for g, v in zip(gradients, self._velocities, strict=True):
                torch.add(g, v, alpha=settings.momentum, out=v)
            gradients = self._velocities
        torch._foreach_addcmul_(self._slots, gradients, [lr] * len(gradients), value=-1)

    def _perturb(self, g: Tensor) -> None:
        """Turn g [T] into y + δ where it lies."""
        settings = self._settings
        if settings.sam == "adaptive":
            self._scale(g)
        norm = norm_of(g)
        if settings.sam == "adaptive":
            self._scale(g)
        g.mul_((norm + NORM_FLOOR).reciprocal_().mul_(settings.sam_rho)).add_(self._trained)

    def _scale(self, g: Tensor) -> None:
        """Multiply g [T] by |y| + η."""
        for part, weights in zip(torch.split(g, BLOCK), torch.split(self._trained, BLOCK), strict=True):
            part.mul_(weights.abs().add_(self._settings.sam_eta))

    def _gradients(
        self, slots: list[Tensor], x: Tensor, y: Tensor, seed: int | None
    ) -> tuple[float, Tensor, list[Tensor]]:
        """Return the mini-batch's loss, the statistics after the pass, and the gradient by slots, ours alone."""
        self._draws.seed(seed, x)
        loss, rest, gradients = self._passes.gradients(slots, self._rest, x, y)
        return float(loss), rest, gradients

    def _join(self, gradients: list[Tensor]) -> Tensor:
        if self._joined is None:
            self._joined = torch.empty_like(self._trained)
        return torch.cat([g.reshape(-1) for g in gradients], out=self._joined)


class AdamWInPlace(InPlaceTraining):
    """The same with AdamW for what a gradient becomes; its moments [T] and their count [1] lie where they are given.

    What a step computes is there a block at a time, in the cache.
    """

    def __init__(
        self,
        forward: Forward,
        settings: LocalSettings,
        passes: Passes,
        model: Tensor,
        update: adamw.AdamW,
        state: State,
        draws: Generators = NONE,
    ) -> None:
        super().__init__(forward, settings, passes, model, draws=draws)
        self._update = update
        self._count = state["count"]
        # Of a small model one call for all slots is worth more than the memory of its gradient.
        self._whole = len(self._trained) <= adamw.BLOCK
        vectors = (self._trained, state["first"][0], state["second"][0])
        self._places = [vectors] if self._whole else list(zip(*map(forward.pieces, vectors), strict=True))

    def _move(self, gradients: list[Tensor], lr: Tensor) -> None:
        if self._whole:
            gradients = [self._join(gradients)]
        self._update.step_in_place(gradients, self._places, self._count, lr)


def norm_of(g: Tensor) -> Tensor:
    """Return ‖g‖₂, () for [T] and (n, 1) for [n, T]."""
    norm: Tensor = (
        torch.linalg.vector_norm(g) if g.dim() == 1 else torch.linalg.vector_norm(g, dim=1, keepdim=True)
    )
    return norm
