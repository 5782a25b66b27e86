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
from gossip.learning.local_update import Gradient, LocalState, LocalUpdate, StepResult
from gossip.learning.task import Task
from scenarios.virtual.linear_stack import LinearStack
from scenarios.virtual.minibatches import MiniBatches, Piece

METHODS = ("auto", "linear-stack", "vmap", "loop")

MEASURED_PEERS = 8
MEASURED_STEPS = 3
"""The best of so many steps of so many peers decides, so that a busy machine decides no differently."""

GAIN_MIN = 1.5
"""How much faster batches must be before they are chosen by measuring. On a CPU, convolutions gain nothing or lose
several times over; a choice far from one is made alike every time, and equal seeds then give equal bits."""


class Choice(NamedTuple):
    """How local updates are computed, and why so."""

    method: str
    """``linear-stack``, ``vmap`` or ``loop``."""
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class StackedTraining:
    """Trains a stack of models, each on its own shard.

    Args:
        update: the local update; its step is the node's.
        minibatches: what each peer trains on.
        gradient: the gradient of a stack where it is not `vmap`'s.
    """

    update: LocalUpdate
    minibatches: MiniBatches
    gradient: Gradient | None = None

    def run(
        self, models: Tensor, peers: Sequence[int], rounds: Sequence[int]
    ) -> tuple[Tensor, list[float], int]:
        """Return the trained models (n, P), their mean losses, and how many mini-batches were skipped.

        `models` is (n, P); ``peers[k]`` trains model k for ``rounds[k]``; peers are in the order of the mini-batches'
        `rank`.
        """
        state = self.update.start(models)
        lr = torch.tensor([self.update.lr(round) for round in rounds], dtype=torch.float32).to(models.device)
        losses = _Losses(len(peers), models.device)
        finished: list[Tensor] = []  # models whose steps are done, the last of the stack first
        self.update.forward.module.train()
        for pieces in self.minibatches.steps(peers, rounds):
            active = pieces[-1].stop
            if active < len(state.trained):
                finished.append(torch.cat([state.trained[active:], state.rest[active:]], 1))
                state = LocalState(*(part[:active] for part in state))
            results = [self._step(state, lr, piece) for piece in pieces]
            state = LocalState(*(_joined(parts) for parts in zip(*(r.state for r in results), strict=True)))
            for piece, result in zip(pieces, results, strict=True):
                losses.add(piece, result)
        trained = state.trained if not state.rest.shape[1] else torch.cat([state.trained, state.rest], 1)
        return _joined([trained, *reversed(finished)]), *losses.result()

    def _step(self, state: LocalState, lr: Tensor, piece: Piece) -> StepResult:
        part = slice(piece.start, piece.stop)
        if piece.stop - piece.start < len(state.trained):
            state = LocalState(*(tensor[part] for tensor in state))
        return self.update.step_stacked(state, piece.x, piece.y, lr[part], gradient=self.gradient)


class _Losses:
    """Mean losses over the samples of the applied mini-batches, in float64 as a node sums them."""

    def __init__(self, count: int, device: torch.device) -> None:
        self._sums = torch.zeros(count, dtype=torch.float64, device=device)
        self._samples = torch.zeros(count, dtype=torch.float64, device=device)
        self._skipped = torch.zeros((), dtype=torch.int64, device=device)

    def add(self, piece: Piece, result: StepResult) -> None:
        part = slice(piece.start, piece.stop)
        weights = piece.sizes * result.applied
        self._sums[part] += torch.where(result.applied, result.loss, 0.0).double() * weights
        self._samples[part] += weights
        self._skipped += (~result.applied).sum()

    def result(self) -> tuple[list[float], int]:
        means: list[float] = (self._sums / self._samples).tolist()  # 0 / 0 is the NaN that is meant
        return means, int(self._skipped)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def choose(task: Task, wanted: str, *, device: torch.device) -> Choice:
    """Return how to train: as `wanted`, or for ``auto`` what suits the network.

    Raises:
        SettingError: `wanted` is unknown, or the network cannot be trained so.
    """
    if wanted not in METHODS:
        raise SettingError(f"[virtual] method = '{wanted}' is unknown; {nearest(wanted, METHODS)}")
    if wanted == "loop":
        return Choice("loop", "as set")
    if task.stochastic:
        if wanted != "auto":
            raise SettingError(
                f"[virtual] method = '{wanted}': the network draws random numbers, which each peer does alone; "
                "valid: auto, loop"
            )
        return Choice("loop", "the network draws random numbers")
    if wanted == "vmap":
        return Choice("vmap", "as set")
    if LinearStack.of(task.module, task.space) is not None:
        return Choice("linear-stack", "linear layers and ReLU only" if wanted == "auto" else "as set")
    if wanted == "linear-stack":
        raise SettingError(
            "[virtual] method = 'linear-stack': the network is not made of linear layers and ReLU alone; "
            "valid: auto, vmap, loop"
        )
    return _tried(task, device)


def _tried(task: Task, device: torch.device) -> Choice:
    """Choose between vmap and loop by doing a few steps of each."""
    update = task.local_update(device)
    try:
        batched_s = _measure_vmap(task, update, device)
    except Exception as failure:
        # Foreign code may do what vmap cannot: branch on a value, call .item(), and so on.
        return Choice("loop", f"vmap cannot run the network: {user_code.one_line(failure)}")
    if device.type != "cpu":
        return Choice("vmap", f"on {device.type}")
    if not any(isinstance(layer, nn.modules.conv._ConvNd) for layer in task.module.modules()):
        return Choice("vmap", "no convolutions")
    gain = _measure_loop(task, update, device) / batched_s
    method = "vmap" if gain > GAIN_MIN else "loop"
    return Choice(method, f"convolutions on the CPU; measured: vmap takes {1 / gain:.1f} × the loop's time")


def _batch(task: Task, device: torch.device) -> tuple[Tensor, Tensor]:
    size = min(task.local_settings.batch_size, len(task.dataset.y_train))
    size = max(size, task.batch_min)
    return task.dataset.x_train[:size].to(device), task.dataset.y_train[:size].to(device)


def _measure_vmap(task: Task, update: LocalUpdate, device: torch.device) -> float:
    x, y = (part.expand(MEASURED_PEERS, *part.shape) for part in _batch(task, device))
    state = update.start(task.initial().to(device).repeat(MEASURED_PEERS, 1))
    lr = torch.full((MEASURED_PEERS,), update.lr(0), device=device)
    update.forward.module.train()
    times_s = []
    for _ in range(MEASURED_STEPS):
        begin_s = time.perf_counter()
        update.step_stacked(state, x, y, lr)
        times_s.append(time.perf_counter() - begin_s)
    return min(times_s)


def _measure_loop(task: Task, update: LocalUpdate, device: torch.device) -> float:
    x, y = _batch(task, device)
    state = update.start(task.initial().to(device))
    lr = torch.tensor(update.lr(0), device=device)
    update.forward.module.train()
    times_s = []
    for _ in range(MEASURED_STEPS):
        begin_s = time.perf_counter()
        for _ in range(MEASURED_PEERS):
            update.step(state, x, y, lr)
        times_s.append(time.perf_counter() - begin_s)
    return min(times_s)
