"""What happens between exchanges, to one model [T] or a stack of them [n, T]: gradients, SAM, steps, mini-batches.

One step of DFedSAM's local loop (Shi et al., ICML 2023; SAM: Foret et al., ICLR 2021), at the point y with
mini-batch ξ:

    g  = ∇F(y; ξ)
    δ  = ρ · g / (‖g‖₂ + 1e-12)         one norm over all trained slots; or, adaptive, see `sam`
    g~ = ∇F(y + δ; ξ)                   the same mini-batch and dropout mask; ρ = 0: g~ = g, no second pass
    g~ ← clip(g~) + weight_decay · y
    y  ← what `[local] optimizer` makes of g~ (`gossip.learning.updates`), at y, not at y + δ

Consolidation. A peer that has samples of a few classes only trains a softmax over all of them, which pushes the
others down at every step. With ``[local] consolidate = "familiar"`` it trains a scratch copy of the output layer and
takes over only the columns of its own classes; its columns for the others come out as they went in (CWR*, Lomonaco et
al. 2019; Bristle, Verbraeken et al. 2021).

The step has one definition; only the way to the gradient differs. A node takes it with autograd or, of linear layers,
without (`LocalTraining.step`), simulations for a whole stack with `torch.func` under `vmap`, or with a function
of their own (`LocalTraining.step_stacked`). A whole local update of one model by heavy-ball steps or AdamW's takes them
in the model's own memory, without a different bit (`in_place`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gossip import plugins, seeding
from gossip.learning import batches
from gossip.learning.data.mapped import Samples
from gossip.learning.forward import Forward
from gossip.learning.generators import NONE, Generators
from gossip.learning.in_place import Done
from gossip.learning.linear_layers import LinearGradient
from gossip.learning.local_state import LocalState as LocalState
from gossip.learning.local_state import StepResult as StepResult
from gossip.learning.mini_batches import mini_batches
from gossip.learning.model_steps import FunctionalSteps, InPlaceSteps
from gossip.learning.normalised import normalised
from gossip.learning.outer import OuterSteps, Remembered, apart, together
from gossip.learning.outer_settings import NO_OUTER, OuterSettings
from gossip.learning.output_layer import OutputLayer
from gossip.learning.passes import Passes
from gossip.learning.private import PrivateGradients, PrivateUpdate
from gossip.learning.schedules import learning_rate
from gossip.learning.settings import LocalSettings
from gossip.learning.step_gradient import StepGradient
from gossip.learning.trained import Trained, summary
from gossip.learning.updates.adamw import AdamW
from gossip.learning.updates.base import ASKS_NOTHING, LocalUpdate, UpdateContext
from gossip.learning.updates.sgd import Sgd
from gossip.plugins import Wrong
from gossip.privacy.settings import NO_PRIVACY, PrivacySettings
from gossip.returned import check_state, check_tensor, pair
from gossip.stages import State

Gradient: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""(trained, rest, x, y) -> (gradient, mean loss, rest after the pass); for a stack, all with a leading axis n."""

WHERE = "[local] optimizer"
"""By what an update is blamed."""

PADDING = -100
"""Label of a sample that pads a mini-batch of a stack: `cross_entropy` leaves it out of sum and count."""


class LocalTraining:
    """The local updates of `[local]` for one network.

    Args:
        forward: the network as a function of its vector.
        settings: step size, momentum, SAM radius and so on.
        draws: which generators the network draws from (dropout); each step is then seeded.
        batch_min: smallest mini-batch that the network can train on (2 with BatchNorm).
        loss: ``loss(logits (b, classes), y (b,)) -> ()``, the mini-batch's mean.
        rounds: how many the run has, for schedules that end with it.
        outer: how an update begins from what merging made of the last one.
        privacy: what becomes of gradients before an update sees them.
        by_hand: the gradient of this network with this loss without autograd, where there is one.
    """

    def __init__(
        self,
        forward: Forward,
        settings: LocalSettings,
        *,
        draws: Generators = NONE,
        batch_min: int = 1,
        loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
        rounds: int | None = None,
        outer: OuterSettings = NO_OUTER,
        privacy: PrivacySettings = NO_PRIVACY,
        by_hand: LinearGradient | None = None,
    ) -> None:
        self.update: LocalUpdate = settings.optimizer.load()(settings.optimizer, settings)
        self._users = not plugins.is_ours(self.update)
        self.outer = None if outer.nothing else OuterSteps(outer)
        self.stage = Remembered(self.update, self.outer)
        """What `run` is to be given the rows of."""
        self.rounds = rounds
        self.forward = forward
        self.settings = settings
        self.draws = draws
        self.batch_min = batch_min
        self.loss = loss
        self.passes = Passes(forward, loss, settings, by_hand=by_hand)
        self.layer = OutputLayer(forward.space) if settings.consolidate == "familiar" else None
        """The output layer whose foreign columns are kept as they were, if so it is set."""
        self.private = None if privacy.nothing else PrivateGradients(self, privacy)
        self._by_transform = self._transform_gradient()
        self._by_vmap: Gradient = torch.func.vmap(self._by_transform)

    def rows(self, peers: int = 1, *, device: torch.device | str = "cpu") -> State:
        """Return what `peers` remember before their first update: zeros."""
        return {
            name: torch.zeros(peers, row.length, device=device)
            for name, row in self.stage.rows(self.forward.space).items()
        }

    def depart(
        self, model: Tensor, rows: State | None, rounds: Sequence[int]
    ) -> tuple[Tensor, State | None, State]:
        """Return where local updates of `model` [P] or [n, P] begin, what they remember, and what outer steps do."""
        if self.outer is None:
            return model, rows, {}
        split = self.forward.space.trained_size
        stack = model if model.dim() == 2 else model[None]
        rows, outer = apart(self.rows(len(stack), device=model.device) if rows is None else rows)
        begun, outer = self.outer.begin(stack[:, :split], outer, self.context(rounds, model.device))
        begun = torch.cat([begun, stack[:, split:]], 1)
        return begun if model.dim() == 2 else begun[0], rows, outer

    def arrive(
        self, trained: Tensor, rows: State, outer: State, rounds: Sequence[int], steps: Tensor
    ) -> State:
        """Return all that is remembered once `trained` (n, T) is handed on; `rows` by the update, and `outer`."""
        if self.outer is None:
            return rows
        context = self.context(rounds, trained.device)
        return together(rows, self.outer.end(trained, outer, context, steps))

    def start(
        self, model: Tensor, rows: State | None = None, *, rounds: Sequence[int] | None = None
    ) -> LocalState:
        """Return the state at the beginning of a local update of `model` [P] or [n, P].

        `rows` are what the update remembers, (1, …) or (n, …), zeros by default; `rounds` the rounds, 0 by default.
        """
        split = self.forward.space.trained_size
        trained = model[..., :split]
        stack = trained if trained.dim() == 2 else trained[None]
        rows = apart(self.rows(len(stack), device=model.device))[0] if rows is None else rows
        if rows or type(self.update).begin is not LocalUpdate.begin:
            context = self.context(rounds or [0] * len(stack), model.device)
            with plugins.blamed(self.update, WHERE):
                begun = self.update.begin(stack, rows, context)
                if self._users:
                    check_state(begun, rows, "begin")
            rows = begun
        return LocalState(trained, model[..., split:], rows)

    def context(self, rounds: Sequence[int], device: torch.device | str = "cpu") -> UpdateContext:
        """Return when the local updates of a stack are."""
        return UpdateContext(
            torch.tensor(rounds, dtype=torch.float32, device=device)[:, None],
            self.rates(rounds, device)[:, None],
        )

    def rates(self, rounds: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """Return the step sizes (n,) of models of a stack in their rounds."""
        # In a simulation all are in the same round, or nearly so.
        of = {round: self.lr(round) for round in set(rounds)}
        return torch.tensor([of[round] for round in rounds], dtype=torch.float32, device=device)

    def end(
        self, trained: Tensor, rows: State, rounds: Sequence[int], steps: Tensor, before: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Return what is handed on of the trained slots (n, T) after `steps` (n, 1), and what the update remembers."""
        if rows or type(self.update).end is not LocalUpdate.end:
            with plugins.blamed(self.update, WHERE):
                context = self.context(rounds, trained.device)
                handed_on, kept = pair(self.update.end(trained, rows, context, steps), "end")
                if self._users:
                    check_tensor(handed_on, tuple(trained.shape), "end returns as models")
                    check_state(kept, rows, "end")
            trained, rows = handed_on, kept
        if self.settings.normalise is not None and before is not None:
            trained = normalised(before[:, : trained.shape[1]], trained, steps, usual=self.settings.normalise)
        return trained, rows

    def lr(self, round: int) -> float:
        """Return the step size η of `round`, by the schedule of `[local]`."""
        return learning_rate(self.settings, round, self.rounds)

    def step(
        self,
        state: LocalState,
        x: Tensor,
        y: Tensor,
        lr: Tensor,
        *,
        seed: int | None = None,
        gradient: Gradient | None = None,
    ) -> StepResult:
        """Do one step on one mini-batch; `x` (b, *input_shape), `y` (b,), `lr` (). Inputs stay as they are.

        `seed` fixes what the network draws (both passes of SAM draw the same); `None`: it draws nothing. `gradient`
        replaces autograd's.
        """
        return self._step(gradient or self.gradient_of_batch, state, x, y, lr, seed)

    def step_stacked(
        self,
        state: LocalState,
        x: Tensor,
        y: Tensor,
        lr: Tensor,
        *,
        gradient: Gradient | None = None,
        into: Tensor | None = None,
    ) -> StepResult:
        """Do the same step for n models at once, each on its own mini-batch; nothing may be drawn (no dropout).

        The parts of `state` are (n, …), `x` (n, b, *input_shape), `y` (n, b), `lr` (n,). A mini-batch is padded with
        labels `PADDING` where its samples do not act on each other. `gradient` replaces `vmap` where it is faster.
        `into` (n, T) is memory that the models after the step may lie in; their own is not touched.
        """
        return self._step(gradient or self._by_vmap, state, x, y, lr, None, into)

    def run(
        self,
        model: Tensor,
        x: Samples,
        y: Tensor,
        *,
        seed: int,
        peer: str,
        round: int,
        rows: State | None = None,
        steps: int | None = None,
        in_place: bool = False,
    ) -> Trained:
        """Train `model` [P] on a shard for one round; a pure function of its arguments.

        `x` (n, *input_shape) and `y` (n,) are the shard; batch order and dropout depend on
        (seed, peer, round, step) only. `rows`, each (1, length), are what the update remembers, `steps` mini-batches
        in the place of what `[local]` says. With `in_place` the memory of both is the caller's no more.
        """
        model, rows, outer = self.depart(model, rows, [round])
        before = model
        if not in_place or self.layer is not None or self.settings.normalise is not None:
            model = model.clone()
            rows = None if rows is None else {name: row.clone() for name, row in rows.items()}
        state = self.start(model, rows, rounds=[round])
        del rows
        # A subclass with a step of its own is none of those that are done where the model lies.
        in_place_too = type(self.update).step in (Sgd.step, AdamW.step)
        private = None if self.private is None else self.private.update(peer, round, len(y))
        way: InPlaceSteps | FunctionalSteps
        if in_place_too and private is None:
            way = InPlaceSteps(self, model, state, round)
        else:
            way = FunctionalSteps(self, state, round, private)
        seed_first = seeding.integer_seed(seed, "dropout", peer=peer, round=round) if self.draws else None
        done: list[Done] = []
        sizes: list[int] = []
        self.forward.module.train()
        plan = self._plan(len(y), private, steps, seed=seed, peer=peer, round=round)
        with self.draws.kept(model), closing(mini_batches(x, y, plan)) as given:
            for x_batch, y_batch in given:
                step_seed = None if seed_first is None else (seed_first + len(sizes)) % 2**63
                done.append(way.step(x_batch, y_batch, step_seed))
                sizes.append(len(y_batch))
        state = way.state
        del way
        applied = torch.tensor([[float(sum(step.applied for step in done))]], device=model.device)
        trained, kept = self.end(state.trained[None], state.rows, [round], applied, before[None])
        split = self.forward.space.trained_size
        trained = trained[0]
        if self.layer is not None:
            trained = self.consolidated(before, trained, self.layer.familiar(y))
        kept = self.arrive(trained[None], kept, outer, [round], applied)
        if trained.data_ptr() != model.data_ptr():
            model[:split] = trained
        if state.rest.data_ptr() != model[split:].data_ptr():
            model[split:] = state.rest
        return summary(model, done, sizes, round=round, rows=kept)

    def _plan(
        self,
        samples: int,
        private: PrivateUpdate | None,
        steps: int | None,
        *,
        seed: int,
        peer: str,
        round: int,
    ) -> Iterator[batches.Epoch]:
        """Return the mini-batches of a local update of a peer with so many samples."""
        if private is not None:
            return private.epochs(steps or batches.steps_of(samples, self.settings))
        least = self.batch_min
        return batches.epochs(
            samples, self.settings, seed=seed, peer=peer, round=round, batch_min=least, steps=steps
        )

    def consolidated(self, before: Tensor, trained: Tensor, familiar: Tensor) -> Tensor:
        """Return the trained slots (…, T) with the columns of foreign classes as in the models `before` (…, P).

        `familiar` (…, classes) tells of which classes there were samples.
        """
        if self.layer is None:
            return trained
        return torch.where(self.layer.spread(familiar), trained, before[..., : trained.shape[-1]])

    def _step(
        self,
        gradient: Gradient,
        state: LocalState,
        x: Tensor,
        y: Tensor,
        lr: Tensor,
        seed: int | None,
        into: Tensor | None = None,
    ) -> StepResult:
        stacked = state.trained.dim() == 2
        batch = StepGradient(self, gradient, state.rest, x, y, seed, stacked)
        models = state.trained if stacked else state.trained[None]
        with plugins.blamed(self.update, WHERE):
            if into is not None and isinstance(self.update, Sgd) and self.gives_gradients_up:
                moved, rows = self.update.step_into(into, batch, models, state.rows, lr.reshape(-1, 1))
            else:
                moved, rows = pair(self.update.step(batch, models, state.rows, lr.reshape(-1, 1)), "step")
            if self._users:
                check_tensor(moved, tuple(models.shape), "step returns as models")
                check_state(rows, state.rows, "step")
                if not batch.asked:
                    raise Wrong(ASKS_NOTHING)
        applied, rest = batch.applied, batch.rest_after
        # It is seldom anything but finite; where asking is cheap, that saves a pass over it.
        if moved.is_cuda or not bool(applied.all()):
            moved = torch.where(applied, moved, models)
            rows = {
                name: row if row is state.rows[name] else torch.where(applied, row, state.rows[name])
                for name, row in rows.items()
            }
            rest = torch.where(applied, rest, state.rest) if self.forward.updates_rest else state.rest
        if not stacked:
            moved, applied = moved[0], applied.reshape(1)
        return StepResult(LocalState(moved, rest, rows), batch.loss, applied.squeeze(-1))

    @property
    def gives_gradients_up(self) -> bool:
        """Whether nobody looks at a gradient once a step is made of it, so that the step may take its memory."""
        return type(self.update).step is Sgd.step

    def loss_and_rest(self, trained: Tensor, rest: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return a mini-batch's loss () and what has become of `rest`; differentiable."""
        logits, rest = self.forward.with_updates(trained, rest, x)
        return self.loss(logits, y), rest

    def gradient_of_batch(
        self, trained: Tensor, rest: Tensor, x: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradient (T,), the loss () and what has become of `rest`, of a mini-batch."""
        loss, rest, gradients = self.passes.gradients(self.forward.pieces(trained), rest, x, y)
        return torch.cat([gradient.reshape(-1) for gradient in gradients]), loss, rest

    def _transform_gradient(self) -> Gradient:
        transformed = torch.func.grad_and_value(self.loss_and_rest, has_aux=True)

        def gradient(trained: Tensor, rest: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            g, (loss, rest) = transformed(trained, rest, x, y)
            return g, loss, rest

        return gradient
