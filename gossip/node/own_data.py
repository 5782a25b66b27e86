"""What a node says of its own data before it learns: how much there is, and what may be a mistake."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gossip.node.setup import Setup


def told(setup: Setup) -> str:
    """Return e.g. ``300 own samples (3 classes: 0, 1, 5), 120 test samples, from python:mine.py:load``."""
    task, shard = setup.task, setup.learner.shard
    names = task.dataset.preparation.class_names
    words = f"{len(shard)} own samples ({task.objective.told(shard.y, names)}), {len(task.dataset.y_test)} test samples"
    done = str(task.dataset.preparation)
    return f"{words}, from {task.data_settings.source}{f'; {done}' if done else ''}"


def cautions(setup: Setup) -> list[str]:
    """Return what may be a mistake in data, network and settings, a sentence each."""
    from gossip.learning import batches, scales

    task, learner = setup.task, setup.learner
    found = [
        *task.cautions,
        scales.caution(learner.scales, task.model_settings),
        batches.caution(len(learner.shard), task.local_settings, whose="here"),
    ]
    return [sentence for sentence in found if sentence is not None]
