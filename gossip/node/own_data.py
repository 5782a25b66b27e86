"""What a node says of its own data before it learns: how much there is, and what may be a mistake."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gossip.node.setup import Setup


def told(setup: Setup) -> str:
    """Return e.g. ``300 own samples (3 classes: 0, 1, 5), 120 test samples, from python:mine.py:load``."""
    from gossip.learning.data.mapped import Mapped

    task, shard = setup.task, setup.learner.shard
    words = (
        f"{len(shard)} own samples ({task.objective.told(shard.y)}), {len(task.dataset.y_test)} test samples"
    )
    done = [str(task.dataset.preparation), "mapped" if isinstance(shard.x, Mapped) else ""]
    return "; ".join([f"{words}, from {task.data_settings.source}", *filter(None, done)])


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
