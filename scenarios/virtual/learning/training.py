"""Local updates of many peers: all at once where that is faster, else one after another as a node does them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gossip.errors import SettingError, nearest
from gossip.learning import user_code
from gossip.learning.data.mapped import Mapped
from gossip.learning.local_training import Gradient, LocalState, LocalTraining, StepResult
from gossip.learning.task import Task
from gossip.stages import State
from scenarios.virtual.learning.linear_stack import LinearStack
from scenarios.virtual.learning.minibatches import MiniBatches, Piece

METHODS = ("auto", "linear-stack", "vmap", "loop")

MULTIPLICATIONS_MAX = 2_000_000
"""Of all convolutions in one step, up to which stacks are the faster on a CPU. Measured with the networks cnn and
lenet-gn, samples of 8×8 to 3×32×32 and mini-batches of 4 to 32: below, vmap takes 0.25 to 0.7 times as long as the
loop; from some 5 M on it takes longer, up to three times."""

DECISIVE = 3.0
"""So many times faster must be what arithmetic advises against. Measuring near a limit would choose now this, now that,
and equal seeds are to give equal bits on one machine."""

AGREEMENT = 1e-3
"""Largest difference between a step under vmap and alone, in terms of the step's largest entry; kernels for stacks add
up in another order. What a hook does, or what is read from a value, may get lost under vmap without a word."""

OTHER_WEIGHTS = 0.9
"""Of the second model of that comparison, as a share of the first's."""

MEASURED_PEERS_MAX = 8
MEASURED_BYTES = 64 * 2**20
MEASURED_REPETITIONS_MAX = 5
MEASURED_S = 1.0
"""Bounds of the measurement: models in the stack, their size, repetitions, and seconds after which none is begun."""


class Choice(NamedTuple):
    """How local updates are computed, and why so."""

    method: str
    """``linear-stack``, ``vmap`` or ``loop``."""
    reason: str


class StackedOutcome(NamedTuple):
    """What became of a stack of models."""

    models: Tensor  # (n, P)
    losses: list[float]
    first_losses: list[float]
    """Of the first mini-batches."""
    skipped: list[int]
    """Mini-batches, of each model."""
    steps: list[int]
    """Those skipped among them."""
    rows: State  # what the update remembers now, each (n, length)


@dataclass(frozen=True, slots=True, eq=False)
class StackedTraining:
    """Trains a stack of models, each on its own shard.

    Args:
        training: the local update; its step is the node's.
        minibatches: what each peer trains on.
        gradient: the gradient of a stack where it is not `vmap`'s.
    """

    training: LocalTraining
    minibatches: MiniBatches
    gradient: Gradient | None = None

    def run(
        self,
        models: Tensor,
        peers: Sequence[int],
        rounds: Sequence[int],
        rows: State | None = None,
        steps: Sequence[int | None] | None = None,
    ) -> StackedOutcome:
        """Train the models (n, P).

        ``peers[k]`` trains model k for ``rounds[k]``, with ``steps[k]`` mini-batches if not as `[local]` says; they are
        in the order of the mini-batches' `place`. `rows` (n, length) are what the update remembers.
        """
        models, rows, outer = self.training.depart(models, rows, rounds)
        state = self.training.start(models, rows, rounds=rounds)
        lr = self.training.rates(rounds, models.device)
        losses = _Losses(len(peers), models.device)
        # Of models whose steps are done, the last of the stack first.
        finished: list[LocalState] = []
        self.training.forward.module.train()
        for pieces in self.minibatches.steps(peers, rounds, steps):
            active = pieces[-1].stop
            if active < len(state.trained):
                finished.append(_cut(state, slice(active, None)))
                state = _cut(state, slice(active))
            results = [self._step(state, lr, piece) for piece in pieces]
            state = _put_together([result.state for result in results])
            for piece, result in zip(pieces, results, strict=True):
                losses.add(piece, result)
        state = _put_together([state, *reversed(finished)])
        trained, kept = self.training.end(state.trained, state.rows, rounds, losses.applied, models)
        if self.training.layer is not None:
            # Only the output layer is trained here, so there is nothing behind it but statistics.
            familiar = self.minibatches.familiar[torch.tensor(peers, device=models.device)]
            trained = self.training.consolidated(models, trained, familiar)
        kept = self.training.arrive(trained, kept, outer, rounds, losses.applied)
        if state.rest.shape[1]:
            trained = torch.cat([trained, state.rest], 1)
        return StackedOutcome(trained, *losses.result(), kept)

    def _step(self, state: LocalState, lr: Tensor, piece: Piece) -> StepResult:
        part = slice(piece.start, piece.stop)
        if piece.stop - piece.start < len(state.trained):
            state = _cut(state, part)
        return self.training.step_stacked(state, piece.x, piece.y, lr[part], gradient=self.gradient)


class _Losses:
    """Mean losses over the samples of the applied mini-batches, in float64 as a node sums them."""

    def __init__(self, count: int, device: torch.device) -> None:
        self._sums = torch.zeros(count, dtype=torch.float64, device=device)
        self._samples = torch.zeros(count, dtype=torch.float64, device=device)
        self._first = torch.zeros(count, device=device)
        self._begun = 0
        """How many models have done a step: all have their turn in the first."""
        self._skipped = torch.zeros(count, dtype=torch.int64, device=device)
        self.applied = torch.zeros(count, 1, device=device)
        """Steps done so far by each."""

    def add(self, piece: Piece, result: StepResult) -> None:
        part = slice(piece.start, piece.stop)
        weights = piece.sizes * result.applied
        self._sums[part] += torch.where(result.applied, result.loss, 0.0).double() * weights
        self._samples[part] += weights
        self._skipped[part] += ~result.applied
        if piece.start == self._begun:
            self._first[part] = result.loss
            self._begun = piece.stop
        self.applied[part, 0] += result.applied

    def result(self) -> tuple[list[float], list[float], list[int], list[int]]:
        means: list[float] = (self._sums / self._samples).tolist()  # 0 / 0 is the NaN that is meant
        steps = self.applied[:, 0].long() + self._skipped
        return means, self._first.tolist(), self._skipped.tolist(), steps.tolist()


def _cut(state: LocalState, part: slice) -> LocalState:
    rows = {name: row[part] for name, row in state.rows.items()}
    return LocalState(state.trained[part], state.rest[part], rows)


def _put_together(states: Sequence[LocalState]) -> LocalState:
    if len(states) == 1:
        return states[0]
    rows = {name: torch.cat([state.rows[name] for state in states]) for name in states[0].rows}
    return LocalState(
        torch.cat([state.trained for state in states]), torch.cat([state.rest for state in states]), rows
    )


def choose(task: Task, wanted: str, *, device: torch.device, batch_size: int) -> Choice:
    """Return how to train: as `wanted`, or for ``auto`` what suits the network with mini-batches of `batch_size`.

    Raises:
        SettingError: `wanted` is unknown, or the network cannot be trained so.
    """
    if wanted not in METHODS:
        raise SettingError(f"[virtual] method = '{wanted}' is unknown; {nearest(wanted, METHODS)}")
    if wanted == "loop":
        return Choice("loop", "as set")
    if isinstance(task.dataset.x_train, Mapped):
        if wanted != "auto":
            raise SettingError(
                f"[virtual] method = '{wanted}': the samples are mapped, and a stack's are in memory; "
                '[virtual] method = "loop" reads them as they are needed, and [data] mapped = false reads them all now'
            )
        return Choice("loop", "the samples are mapped")
    if task.draws:
        if wanted != "auto":
            raise SettingError(
                f"[virtual] method = '{wanted}': the network draws random numbers, which each peer does alone; "
                "valid: auto, loop"
            )
        return Choice("loop", "the network draws random numbers")
    if not task.local_training(device).passes.plain:
        if wanted != "auto":
            raise SettingError(
                f"[virtual] method = '{wanted}': [local] precision, micro_batch and compile are each peer's alone; "
                "valid: auto, loop"
            )
        return Choice("loop", "half precision, mini-batches in parts, or a compiled network")
    if wanted == "vmap":
        return Choice("vmap", "as set")
    if task.objective.plain and LinearStack.of(task.module, task.space) is not None:
        return Choice("linear-stack", "linear layers and ReLU only" if wanted == "auto" else "as set")
    if wanted == "linear-stack":
        raise SettingError(
            "[virtual] method = 'linear-stack': the network is not made of linear layers and ReLU alone, or the loss "
            "is not plain cross-entropy; valid: auto, vmap, loop"
        )
    return _tried(task, device, batch_size)


def _tried(task: Task, device: torch.device, batch_size: int) -> Choice:
    """Choose between vmap and loop by doing a few steps of each."""
    trial = _Trial(task, device, batch_size)
    try:
        trial.stacked_s()
        agrees = trial.agrees()
    except Exception as failure:
        # Foreign code may do what vmap cannot: branch on a value, call .item(), and so on.
        return Choice("loop", f"vmap cannot run the network: {user_code.one_line(failure)}")
    if not agrees:
        return Choice("loop", "vmap makes something else of the network's step")
    if device.type != "cpu":
        return Choice("vmap", f"on {device.type}")
    multiplications = batch_size * _multiplications(task)
    if not multiplications:
        return Choice("vmap", "no convolutions")
    ratio = _measured_ratio(trial)
    method = "vmap" if multiplications <= MULTIPLICATIONS_MAX else "loop"
    if method == "vmap" and ratio > DECISIVE:
        method = "loop"
    elif method == "loop" and ratio < 1 / DECISIVE:
        method = "vmap"
    return Choice(
        method,
        f"convolutions on the CPU, {multiplications / 1e6:.1f} M multiplications per step; "
        f"measured: vmap takes {ratio:.1f} × the loop's time",
    )


def _multiplications(task: Task) -> int:
    """Return how many multiplications the network's convolutions do for one sample."""
    counts: list[int] = []

    def count(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.modules.conv._ConvNd)
        counts.append(output[0, 0].numel() * layer.weight.numel())

    part = task.forward_on().part
    convolutions = [each for each in part.modules() if isinstance(each, nn.modules.conv._ConvNd)]
    hooks = [each.register_forward_hook(count) for each in convolutions]
    try:
        part.eval()
        with torch.no_grad():
            part(task.x_train[:2])  # a norm may need two
    finally:
        for hook in hooks:
            hook.remove()
    return sum(counts)


def _measured_ratio(trial: _Trial) -> float:
    """Return how many times as long as the loop vmap takes; the best of each, taken in turns."""
    stacked_s: list[float] = []
    alone_s: list[float] = []
    begin_s = time.perf_counter()
    while len(stacked_s) < MEASURED_REPETITIONS_MAX:
        stacked_s.append(trial.stacked_s())
        alone_s.append(trial.alone_s())
        if time.perf_counter() - begin_s > MEASURED_S:
            break
    return min(stacked_s) / min(alone_s)


class _Trial:
    """One step of a few peers, together and alone, timed."""

    def __init__(self, task: Task, device: torch.device, batch_size: int) -> None:
        self._training = task.local_training(device)
        self._peers = min(MEASURED_PEERS_MAX, max(2, MEASURED_BYTES // (4 * task.space.size)))
        self._x = task.x_train[:batch_size].to(device)
        self._y = task.dataset.y_train[:batch_size].to(device)
        self._model = task.initial().to(device)
        self._lr = torch.tensor(self._training.lr(0), device=device)
        self._training.forward.module.train()

    def agrees(self) -> bool:
        """Return whether a step is the same under vmap and alone, for two models that differ."""
        models = torch.stack([self._model, OTHER_WEIGHTS * self._model])
        forward, split = self._training.forward, self._training.forward.space.trained_size
        with torch.no_grad():
            # Without gradients a layer may take another way, which vmap does not know.
            torch.func.vmap(forward, in_dims=(0, 0, None))(models[:, :split], models[:, split:], self._x)
        state = self._training.start(models)
        x, y = (part.expand(2, *part.shape) for part in (self._x, self._y))
        together = self._training.step_stacked(state, x, y, self._lr.expand(2))
        for place, model in enumerate(models):
            alone = self._training.step(self._training.start(model), self._x, self._y, self._lr)
            for one, other, before in (
                (together.state.trained[place], alone.state.trained, state.trained[place]),
                (together.state.rest[place], alone.state.rest, state.rest[place]),
            ):
                if len(one) and not (one - other).abs().max() <= AGREEMENT * (other - before).abs().max():
                    return bool(torch.equal(one.isfinite(), other.isfinite()) and not other.isfinite().all())
        return True

    def stacked_s(self) -> float:
        """Return the seconds of one step of all peers under vmap."""
        n = self._peers
        x, y = (part.expand(n, *part.shape) for part in (self._x, self._y))
        state = self._training.start(self._model.repeat(n, 1))
        begin_s = time.perf_counter()
        self._training.step_stacked(state, x, y, self._lr.expand(n))
        return time.perf_counter() - begin_s

    def alone_s(self) -> float:
        """Return the seconds of one step of one peer after another."""
        state = self._training.start(self._model)
        begin_s = time.perf_counter()
        for _ in range(self._peers):
            self._training.step(state, self._x, self._y, self._lr)
        return time.perf_counter() - begin_s
