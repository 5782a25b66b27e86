"""What happens between exchanges: SGD, heavy-ball momentum and SAM as pure functions of vectors.

One step of DFedSAM's local loop (Shi et al., ICML 2023; SAM: Foret et al., ICLR 2021), at the point y with
mini-batch ξ:

    g  = ∇F(y; ξ)
    δ  = ρ · g / (‖g‖₂ + 1e-12)         one norm over all trained slots; or, adaptive, see below
    g~ = ∇F(y + δ; ξ)                   the same mini-batch and dropout mask; ρ = 0: g~ = g, no second pass
    g~ ← clip(g~) + weight_decay · y
    v  ← μ v + g~
    y  ← y − η v                        at y, not at y + δ

Adaptive SAM (Kwon et al., ICML 2021, element-wise, p = 2). A ball around y is no measure of flatness: a network whose
one layer is made a times larger and whose next a times smaller computes the same, and has other losses within the same
ball. With ``[local] sam = "adaptive"`` the ball is measured in the weights' own sizes, T = |y| + η entry by entry:

    δ  = ρ · T² g / (‖T g‖₂ + 1e-12)

With η = 0, y + δ scales as y does, so that the loss there stays what it was. All trained slots are scaled, biases too:
they scale with their layer.

Consolidation. A peer that has samples of a few classes only trains a softmax over all of them, which pushes the
others down at every step. With ``[local] consolidate = "familiar"`` it trains a scratch copy of the output layer and
takes over only the columns of its own classes; its columns for the others come out as they went in (CWR*, Lomonaco et
al. 2019; Bristle, Verbraeken et al. 2021).

The step has one definition, for one model [T] or a stack of them [n, T]; only the way to the gradient differs. A
node takes it with autograd, which is the faster for one model (`LocalUpdate.step`); simulations take the gradients of
a whole stack with `torch.func` under `vmap`, or with a function of their own (`LocalUpdate.step_stacked`). A whole
local update of one model takes the same steps in the model's own memory, without a different bit (`in_place`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gossip import seeding
from gossip.learning import batches
from gossip.learning.forward import Forward
from gossip.learning.in_place import NORM_FLOOR, Done, InPlaceTraining, norm_of, reseed
from gossip.learning.output_layer import OutputLayer
from gossip.learning.settings import LocalSettings

Gradient: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""(trained, rest, x, y) -> (gradient, mean loss, rest after the pass); for a stack, all with a leading axis n."""

PADDING = -100
"""Label of a sample that pads a mini-batch of a stack: `cross_entropy` leaves it out of sum and count."""


class LocalState(NamedTuple):
    """What one step changes. A tuple, so that `vmap` stacks it over peers; a stack has a leading axis n."""

    trained: Tensor  # (T,) learned and private slots
    rest: Tensor  # (P - T,) statistics, counters
    velocity: Tensor  # (T,) heavy-ball buffer v, or (0,) without momentum


class StepResult(NamedTuple):
    """The state after a step, the mini-batch's loss, and whether the step was applied."""

    state: LocalState
    loss: Tensor  # () or (n,) mean over the mini-batch at y; may be NaN where skipped
    applied: Tensor  # () or (n,) bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The outcome of one local update."""

    model: Tensor  # (P,)
    round: int
    loss: float
    """Mean over the samples of the applied mini-batches; NaN where every one was skipped."""
    first_loss: float
    """Of the first mini-batch, and so of the model that the update began with."""
    samples: int
    """Samples seen, repetitions counted, skipped mini-batches not."""
    steps: int
    skipped: int
    """Mini-batches whose gradient was not finite: the model stayed as it was."""
    velocity: Tensor | None = None  # (T,)
    """The heavy-ball buffer at the end, where it is kept for the next local update."""

    def figures(self) -> Trained:
        """Return the same without the vectors, which are large: the model is empty."""
        return replace(self, model=torch.empty(0), velocity=None)


class LocalUpdate:
    """The local update of `[local]` for one network.

    Args:
        forward: the network as a function of its vector.
        settings: step size, momentum, SAM radius and so on.
        stochastic: whether the network draws random numbers (dropout); each step is then seeded.
        batch_min: smallest mini-batch that the network can train on (2 with BatchNorm).
        loss: ``loss(logits (b, classes), y (b,)) -> ()``, the mini-batch's mean.
    """

    def __init__(
        self,
        forward: Forward,
        settings: LocalSettings,
        *,
        stochastic: bool = False,
        batch_min: int = 1,
        loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
    ) -> None:
        self.forward = forward
        self.settings = settings
        self.stochastic = stochastic
        self.batch_min = batch_min
        self.loss = loss
        self.layer = OutputLayer(forward.space) if settings.consolidate == "familiar" else None
        """The output layer whose foreign columns are kept as they were, if so it is set."""
        self._by_autograd = self._autograd_gradient
        self._by_transform = self._transform_gradient()
        self._by_vmap: Gradient = torch.func.vmap(self._by_transform)

    @property
    def keeps_velocity(self) -> bool:
        """Whether the momentum buffer lives on from one local update to the next."""
        return bool(self.settings.momentum) and self.settings.keep_momentum

    def start(self, model: Tensor, velocity: Tensor | None = None) -> LocalState:
        """Return the state at the beginning of a round for `model` [P] or [n, P].

        The momentum buffer is new, unless one is given: [T] or [n, T].
        """
        split = self.forward.space.trained_size
        trained = model[..., :split]
        if velocity is None:
            velocity = torch.zeros_like(trained) if self.settings.momentum else trained[..., :0]
        return LocalState(trained, model[..., split:], velocity)

    def lr(self, round: int) -> float:
        """Return the step size η of `round`: lr · lr_decay^round."""
        return self.settings.lr * self.settings.lr_decay**round

    def step(
        self, state: LocalState, x: Tensor, y: Tensor, lr: Tensor, *, seed: int | None = None
    ) -> StepResult:
        """Do one step on one mini-batch; `x` (b, *input_shape), `y` (b,), `lr` (). Inputs stay as they are.

        `seed` fixes what the network draws (both passes of SAM draw the same); `None`: it draws nothing.
        """
        return self._step(self._by_autograd, state, x, y, lr, seed)

    def step_functional(self, state: LocalState, x: Tensor, y: Tensor, lr: Tensor) -> StepResult:
        """Do the same step with `torch.func` gradients, to be wrapped in `vmap` over (peers, …)."""
        return self._step(self._by_transform, state, x, y, lr, None)

    def step_stacked(
        self, state: LocalState, x: Tensor, y: Tensor, lr: Tensor, *, gradient: Gradient | None = None
    ) -> StepResult:
        """Do the same step for n models at once, each on its own mini-batch; nothing may be drawn (no dropout).

        The parts of `state` are (n, …), `x` (n, b, *input_shape), `y` (n, b), `lr` (n,). A mini-batch is padded with
        labels `PADDING` where its samples do not act on each other. `gradient` replaces `vmap` where a network has
        a faster one.
        """
        return self._step(gradient or self._by_vmap, state, x, y, lr, None)

    def run(
        self,
        model: Tensor,
        x: Tensor,
        y: Tensor,
        *,
        seed: int,
        peer: str,
        round: int,
        velocity: Tensor | None = None,
        in_place: bool = False,
    ) -> Trained:
        """Train `model` [P] on a shard for one round; a pure function of its arguments.

        `x` (n, *input_shape) and `y` (n,) are the shard; batch order and dropout depend on
        (seed, peer, round, step) only. `velocity` [T] is what the last local update left, where it is kept. With
        `in_place` the memory of both is the caller's no more: the outcome may lie there.
        """
        before = model
        if not in_place or self.layer is not None:
            model = model.clone()
            velocity = None if velocity is None else velocity.clone()
        training = InPlaceTraining(self.forward, self.settings, self.loss, model, velocity)
        del velocity
        lr = torch.tensor(self.lr(round), dtype=torch.float32, device=model.device)
        seed_first = (
            seeding.integer_seed(seed, "dropout", peer=peer, round=round) if self.stochastic else None
        )
        done: list[Done] = []
        sizes: list[int] = []
        self.forward.module.train()
        plan = batches.epochs(
            len(y), self.settings, seed=seed, peer=peer, round=round, batch_min=self.batch_min
        )
        with torch.random.fork_rng(_devices(model), enabled=self.stochastic):
            for epoch in plan:
                # One gather per epoch: slices of it are then free.
                order = torch.from_numpy(epoch.order).to(y.device)
                sizes_now = list(epoch.sizes)
                xs, ys = x.index_select(0, order), y.index_select(0, order)
                for x_batch, y_batch in zip(
                    torch.split(xs, sizes_now), torch.split(ys, sizes_now), strict=True
                ):
                    step_seed = None if seed_first is None else (seed_first + len(sizes)) % 2**63
                    done.append(training.step(x_batch, y_batch, lr, seed=step_seed))
                    sizes.append(len(y_batch))
        if self.layer is not None:
            split = self.forward.space.trained_size
            model[:split] = self.consolidated(before, model[:split], self.layer.familiar(y))
        velocity = training.velocity if self.keeps_velocity else None
        return _summary(model, done, sizes, round=round, velocity=velocity)

    def consolidated(self, before: Tensor, trained: Tensor, familiar: Tensor) -> Tensor:
        """Return the trained slots (…, T) with the columns of foreign classes as in the models `before` (…, P).

        `familiar` (…, classes) tells of which classes there were samples.
        """
        if self.layer is None:
            return trained
        return torch.where(self.layer.spread(familiar), trained, before[..., : trained.shape[-1]])

    def _step(
        self, gradient: Gradient, state: LocalState, x: Tensor, y: Tensor, lr: Tensor, seed: int | None
    ) -> StepResult:
        trained, rest, velocity = state
        settings = self.settings
        reseed(seed, trained)
        g, loss, rest_after = gradient(trained, rest, x, y)
        if settings.sam_rho:
            reseed(seed, trained)  # the same dropout mask as in the first pass
            # The second pass' statistics are dropped: they were measured at perturbed weights.
            g, _, _ = gradient(trained + perturbation(settings, g, trained), rest, x, y)
        norm = norm_of(g)
        applied = norm < torch.inf  # false for NaN, too
        if settings.clip_norm is not None:
            g = g * torch.clamp(settings.clip_norm / (norm + NORM_FLOOR), max=1.0)
        if settings.weight_decay:
            g = torch.add(g, trained, alpha=settings.weight_decay)
        if settings.momentum:
            g = torch.add(g, velocity, alpha=settings.momentum)
        stacked = trained.dim() == 2
        moved = torch.addcmul(trained, g, lr.unsqueeze(1) if stacked else lr, value=-1)
        # A stack is seldom anything but finite; where asking is cheap, that saves a pass over it.
        if not (stacked and not trained.is_cuda and bool(applied.all())):
            moved = torch.where(applied, moved, trained)
            g = torch.where(applied, g, velocity) if settings.momentum else g
            rest_after = torch.where(applied, rest_after, rest) if self.forward.updates_rest else rest
        velocity = g if settings.momentum else velocity
        return StepResult(
            LocalState(moved, rest_after, velocity), loss, applied.squeeze(1) if stacked else applied
        )

    def _loss(self, trained: Tensor, rest: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits, rest = self.forward.with_updates(trained, rest, x)
        return self.loss(logits, y), rest

    def _autograd_gradient(
        self, trained: Tensor, rest: Tensor, x: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        leaf = trained.detach().requires_grad_()
        loss, rest = self._loss(leaf, rest, x, y)
        (g,) = torch.autograd.grad(loss, leaf)
        return g, loss.detach(), rest

    def _transform_gradient(self) -> Gradient:
        transformed = torch.func.grad_and_value(self._loss, has_aux=True)

        def gradient(trained: Tensor, rest: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            g, (loss, rest) = transformed(trained, rest, x, y)
            return g, loss, rest

        return gradient


def sam_perturbation(g: Tensor, rho: float) -> Tensor:
    """Return SAM's δ = ρ · g / (‖g‖₂ + 1e-12) for gradients [T] or [n, T]: of norm ρ, or zero where g is."""
    return torch.mul(g, rho / (norm_of(g) + NORM_FLOOR))


def asam_perturbation(g: Tensor, w: Tensor, rho: float, eta: float) -> Tensor:
    """Return adaptive SAM's δ = ρ · T² g / (‖T g‖₂ + 1e-12) with T = |w| + η, for g and w [T] or [n, T].

    ‖T⁻¹ δ‖₂ is ρ, or zero where T g is.
    """
    size = w.abs().add_(eta)
    scaled = g * size
    return scaled.mul(size).mul_(rho / (norm_of(scaled) + NORM_FLOOR))


def perturbation(settings: LocalSettings, g: Tensor, w: Tensor) -> Tensor:
    """Return the δ of `[local] sam` for gradients g at the weights w, [T] or [n, T]."""
    if settings.sam == "adaptive":
        return asam_perturbation(g, w, settings.sam_rho, settings.sam_eta)
    return sam_perturbation(g, settings.sam_rho)


def _devices(tensor: Tensor) -> list[torch.device]:
    return [tensor.device] if tensor.is_cuda else []


def _summary(
    model: Tensor, done: list[Done], sizes: list[int], *, round: int, velocity: Tensor | None
) -> Trained:
    applied = torch.tensor([step.applied for step in done])
    losses = torch.tensor([step.loss for step in done], dtype=torch.float64).where(applied, 0.0)
    weights = torch.tensor(sizes) * applied
    samples = int(weights.sum())
    return Trained(
        model=model,
        round=round,
        loss=float((losses * weights).sum()) / samples if samples else float("nan"),
        first_loss=done[0].loss,
        samples=samples,
        steps=len(sizes),
        skipped=len(sizes) - int(applied.sum()),
        velocity=velocity,
    )
