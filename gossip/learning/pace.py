"""How long a local update takes here, told by a few of its steps on own samples."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, replace

import torch

from gossip.learning.batches import batch_sizes
from gossip.learning.steps_by_deadline import StepsByDeadline
from gossip.learning.task import Shard, Task

BUDGET_S = 2.0
"""Of all measuring; a single step may take longer, and is then the measurement."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What was measured."""

    steps: int
    """Measured; the first of a process, which also makes ready what all others use, is not among them if there is time
    for more."""
    seconds: float
    """They took."""
    steps_per_round: int
    """Of a local update with these settings and samples."""

    @property
    def seconds_per_round(self) -> float:
        """What a local update takes."""
        return self.seconds / self.steps * self.steps_per_round


def measure(task: Task, shard: Shard, *, device: torch.device, budget_s: float = BUDGET_S) -> Pace:
    """Train the task's first model for a few steps on `shard`; nothing of it is kept.

    Steps are doubled as long as that fits into the budget, up to a whole local update.
    """
    settings = task.local_settings
    sizes = batch_sizes(len(shard), settings.batch_size, batch_min=task.batch_min)
    whole = settings.steps or len(sizes) * (settings.epochs or 1)
    if settings.deadline_s is not None:
        whole = settings.steps_max
    x, y, model = shard.x.to(device), shard.y.to(device), task.initial().to(device)

    def seconds_of(steps: int) -> float:
        shorter = copy.copy(task)  # what has been loaded and built is shared
        shorter.local_settings = settings.model_copy(update={"epochs": None, "steps": steps})
        training = shorter.local_training(device)
        rows = training.rows(device=device)
        began_s = time.perf_counter()
        training.run(model, x, y, seed=task.seed, peer="", round=0, rows=rows)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began_s

    expected_s, steps = seconds_of(1), 1
    pace, spent_s = Pace(1, expected_s, whole), expected_s
    while spent_s + expected_s <= budget_s:
        pace = Pace(steps, seconds_of(steps), whole)
        spent_s += pace.seconds
        if steps == whole:
            break
        expected_s, steps = pace.seconds * min(2 * steps, whole) / steps, min(2 * steps, whole)
    fits = StepsByDeadline.of(settings)
    if fits is not None:
        fits.took(pace.seconds, steps=pace.steps)
        pace = replace(pace, steps_per_round=fits.steps())
    return pace
