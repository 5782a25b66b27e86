"""Laws of privacy beside a frozen base: only what travels is noised, and both engines do the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gossip.learner import Learner
from gossip.learning import adapters
from gossip.learning.adapter_settings import AdapterSettings
from gossip.learning.settings import DataSettings, DirichletPartition, LocalSettings, ModelSettings
from gossip.learning.task import Task
from gossip.merging.settings import AverageSettings
from gossip.parameters import Role
from gossip.privacy import per_sample
from gossip.privacy.settings import PrivacySettings
from scenarios.virtual.learning.batched import BatchedLearning
from tests import known_entropy
from tests.laws import tried
from tests.virtual_learners import PEERS, assert_close, names_of, write_task_files

ADAPTERS = {
    "R": {"kind": "r-only", "rank": 3, "targets": ("*",)},
    "B": {"kind": "lora", "train": "B", "rank": 3},
    "seeds": {"kind": "seed-space", "size": 12},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_task_files(tmp_path_factory.mktemp("private-adapters"))


def task_of(folder: Path, adapter: str, *, name: str = "mlp", **privacy) -> Task:
    return Task(
        data=DataSettings(source="data.npz", partition=DirichletPartition(alpha=1.0, min_samples=5)),
        model=ModelSettings(
            name=name,
            adapter=AdapterSettings(**ADAPTERS[adapter]),
            **({"hidden": (6,)} if name == "mlp" else {}),
        ),
        local=LocalSettings(batch_size=8, steps=3, momentum=0.5),
        seed=1,
        folder=folder,
        privacy=PrivacySettings(kind="dp-sgd", **({"epsilon_max": 100.0, "delta": 1e-3} | privacy)),
    )


def learner_of(task: Task, place: int) -> Learner:
    merge = AverageSettings()
    return Learner(task, peer=f"p{place}", position=place, peers=PEERS, merge=merge.load()(merge))


def frozen_of(task: Task) -> dict[str, torch.Tensor]:
    names = {slot.name for slot in task.space.slots_of(Role.FROZEN)}
    return {name: value.clone() for name, value in task.module.state_dict().items() if name in names}


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_node_and_its_row_of_the_stack_agree_on_the_adapters_and_leave_the_base(folder, adapter):
    with pytest.MonkeyPatch.context() as patch:
        known_entropy.know(patch)
        task = task_of(folder, adapter, clip=0.7, noise=0.8)
        before = frozen_of(task)
        assert before
        alone = [learner_of(task, place).train(task.initial(), round=2).model for place in range(PEERS)]
        for method in ("vmap", "loop"):
            learning = BatchedLearning(task, names_of(), AverageSettings(), method=method)
            handles = [learning.train(learning.initial(k), k, round=2) for k in range(PEERS)]
            for row, mine in zip(learning.stack(handles), alone, strict=True):
                assert_close(row, mine)
                assert not torch.equal(mine, task.initial())
    assert all(torch.equal(value, before[name]) for name, value in frozen_of(task).items())


def flat(task: Task, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return trained slots away from the start, and seven samples of which one is far off."""
    g = torch.Generator().manual_seed(seed)
    trained = task.initial()[: task.space.trained_size]
    x = torch.randn(7, 1, 4, 4, generator=g)
    x[2] *= 1e4
    return trained + torch.randn(len(trained), generator=g), x, torch.randint(0, 3, (7,), generator=g)


@tried(0.3)
@given(st.integers(0, 10_000), st.sampled_from([0.01, 1.0]), st.sampled_from(sorted(ADAPTERS)))
def test_a_sample_moves_the_adapters_sum_by_the_clipping_norm_at_most_and_the_sum_is_that_of_a_loop(
    tmp_path_factory, seed, clip, adapter
):
    task = TASKS.setdefault(adapter, task_of(write_task_files(tmp_path_factory.mktemp("law")), adapter))
    training = task.local_training()
    trained, x, y = flat(task, seed)
    rest = task.initial()[task.space.trained_size :]

    def sum_of(x, y):
        counted = torch.ones(len(y), dtype=torch.bool)
        return per_sample.clipped(training.private._loss_of, trained, rest, x, y, counted, clip=clip)[0]

    everybody = sum_of(x, y)
    assert everybody.shape == (task.space.trained_size,)
    for left_out in range(len(y)):
        kept = [place for place in range(len(y)) if place != left_out]
        moved = (everybody - sum_of(x[kept], y[kept])).double().norm()
        assert float(moved) <= clip * (1 + 1e-5 * len(y))
    wanted = torch.zeros_like(everybody)
    for place in range(len(y)):
        gradient, _, _ = training.gradient_of_batch(trained, rest, x[place : place + 1], y[place : place + 1])
        wanted += gradient * min(1.0, clip / max(float(gradient.norm()), 1e-30))
    assert float((everybody - wanted).abs().max()) <= 1e-4 * max(1e-30, float(wanted.abs().max()))


TASKS: dict[str, Task] = {}
"""Of the law above, made once."""


def test_a_base_with_batch_norm_takes_samples_one_by_one_beside_adapters_and_not_without(folder):
    """Beside adapters its statistics are the base's: samples do not act on each other."""
    task = task_of(folder, "B", name="python:user.py:with_batch_norm")
    task.check()
    assert any(isinstance(layer, adapters.HeldNorm) for layer in task.module.modules())
    done = learner_of(task, 0).train(task.initial(), round=0)
    assert done.learnt
    assert not torch.equal(done.model, task.initial())
