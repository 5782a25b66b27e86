"""Peers of a small task twice: deferred and batched, and each with a learner of its own, to be compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from gossip.learner import Learner
from gossip.learning.settings import (
    DataSettings,
    DirichletPartition,
    LocalSettings,
    ModelSettings,
)
from gossip.learning.task import Task
from gossip.merging.settings import AverageSettings
from gossip.protocols.base import Contribution, GossipStep
from gossip.settings import Choice
from scenarios.virtual.learning.arena import Handle
from scenarios.virtual.learning.batched import BatchedLearning

PEERS = 4
W = np.array([[4, 1, 0, 1], [1, 4, 1, 0], [0, 1, 4, 1], [1, 0, 1, 4]]) / 6

USER_MODELS = """
import torch
from torch import nn

def with_batch_norm(input_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, classes))

def with_dropout(input_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.Dropout(0.5), nn.Linear(6, classes))

class Branching(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.linear = nn.Linear(16, classes)

    def forward(self, x):
        logits = self.linear(x.flatten(1))
        return -logits if float(logits.detach().sum()) > 1e9 else logits

def branching(input_shape, classes):
    return Branching(classes)
"""


def write_task_files(path: Path) -> Path:
    """Fill a folder with samples (1, 4, 4) of 3 classes and a user's networks; return it."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 90)
    x = rng.normal(size=(90, 1, 4, 4)) + y[:, None, None, None]
    np.savez(path / "data.npz", x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:])
    (path / "user.py").write_text(USER_MODELS, encoding="utf-8")
    return path


def task_of(
    folder: Path, model: str = "mlp", *, batch_norm="local", init="shared", partition=None, **local
) -> Task:
    """A task whose peers hold 5 to 30 samples."""
    local = {"batch_size": 8, "steps": 5} | local
    return Task(
        data=DataSettings(
            source="data.npz", partition=partition or DirichletPartition(alpha=1.0, min_samples=5)
        ),
        model=ModelSettings(name=model, batch_norm=batch_norm, init=init),
        local=LocalSettings(**local),
        seed=1,
        folder=folder,
    )


def names_of(peers: int = PEERS) -> list[str]:
    return [f"p{k}" for k in range(peers)]


def batched(task: Task, method: str = "auto", merge: Choice | None = None, peers: int = PEERS):
    return BatchedLearning(task, names_of(peers), merge or AverageSettings(), method=method)


def learners(task: Task, merge: Choice | None = None, peers: int = PEERS) -> list[Learner]:
    choice = merge or AverageSettings()
    return [
        Learner(task, peer=name, position=k, peers=peers, merge=choice.load()(choice))
        for k, name in enumerate(names_of(peers))
    ]


def deferred_round(learning: BatchedLearning, models: Sequence[Handle], round: int) -> list[Handle]:
    trained = [learning.train(model, k, round=round) for k, model in enumerate(models)]
    return [
        learning.merge(
            trained[i],
            W[i, i],
            [Contribution(f"p{j}", trained[j], W[i, j]) for j in range(PEERS) if j != i and W[i, j]],
            peer=i,
            at=GossipStep(round),
        )
        for i in range(PEERS)
    ]


def own_round(group: Sequence[Learner], models: Sequence[torch.Tensor], round: int) -> list[torch.Tensor]:
    learned = group[0].task.space.learned_size
    trained = [learner.train(model, round=round).model for learner, model in zip(group, models, strict=True)]
    return [
        group[i].merge(
            trained[i],
            W[i, i],
            [
                Contribution(f"p{j}", trained[j][:learned], W[i, j])
                for j in range(PEERS)
                if j != i and W[i, j]
            ],
            at=GossipStep(round),
        )
        for i in range(PEERS)
    ]


def assert_close(one: torch.Tensor, other: torch.Tensor, tolerance: float = 1e-5) -> None:
    assert one.shape == other.shape
    assert float((one - other).abs().max()) <= tolerance * float(other.abs().max())


def assert_rounds_agree(task: Task, method: str, *, rounds: int = 1, tolerance: float = 1e-5) -> None:
    learning, group = batched(task, method), learners(task)
    handles = [learning.initial(k, independent=True) for k in range(PEERS)]
    models = [learner.initial(independent=True) for learner in group]
    for round in range(rounds):
        handles = deferred_round(learning, handles, round)
        models = own_round(group, models, round)
    for mine, theirs in zip(learning.stack(handles), models, strict=True):
        assert_close(mine, theirs, tolerance)
    assert not torch.allclose(models[0], task.initial("p0"), atol=1e-3)
