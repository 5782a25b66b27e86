"""Whose data: how many training samples of each class every peer holds."""

from __future__ import annotations

from typing import Any

import torch

from gossip.learning.task import Task

CLASSES_MAX = 40
"""Of more classes only the samples are told."""


def told_shards(task: Task, peers: int) -> dict[str, Any]:
    """Return what `shards.json` says, in the order of positions.

    Returns:
        samples: of each peer, n numbers; classes: the names, and counts: n lists of as many numbers, both [] where
        the objective has no classes, or more than `CLASSES_MAX`.
    """
    divided = task.partition(peers)
    told: dict[str, Any] = {"samples": [len(part) for part in divided], "classes": [], "counts": []}
    count = task.dataset.classes
    if not task.objective.classifies or count > CLASSES_MAX:
        return told
    names = task.dataset.preparation.class_names or tuple(str(number) for number in range(count))
    labels = task.dataset.y_train
    told["classes"] = [str(name) for name in names]
    told["counts"] = [
        torch.bincount(labels[torch.from_numpy(part)], minlength=count).tolist() for part in divided
    ]
    return told
