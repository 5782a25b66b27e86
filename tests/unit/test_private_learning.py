"""Laws of private local updates: what a sample can move, whose chance it is, and that engines agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from gossip import seeding
from gossip.errors import SettingError
from gossip.fitting import check_merge
from gossip.learner import Learner
from gossip.learning.forward import Forward
from gossip.learning.settings import DataSettings, DirichletPartition, LocalSettings, ModelSettings
from gossip.learning.task import Task
from gossip.merging.settings import AverageSettings
from gossip.parameters import ParameterSpace
from gossip.privacy import per_sample
from gossip.privacy.entropy import OPERATING_SYSTEM
from gossip.privacy.settings import PrivacySettings
from scenarios.virtual.learning.batched import BatchedLearning
from scenarios.virtual.learning.linear_stack import LinearStack
from tests import known_entropy
from tests.known_entropy import Seeded
from tests.laws import tried
from tests.virtual_learners import PEERS, assert_close, names_of, write_task_files

CLASSES = 3

CENTRED = """
from torch import nn

class Centred(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.linear = nn.Linear(16, classes)

    def forward(self, x):
        x = x.flatten(1)
        return self.linear(x - x.mean(0))

def centred(input_shape, classes):
    return Centred(classes)
"""
"""A network in which samples act on each other, and no layer's name says so."""


def private(**more) -> PrivacySettings:
    return PrivacySettings(kind="dp-sgd", **({"epsilon_max": 100.0, "delta": 1e-3} | more))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_task_files(tmp_path_factory.mktemp("private"))


def task_of(folder: Path, privacy: PrivacySettings, model: str = "mlp", **local) -> Task:
    return Task(
        data=DataSettings(source="data.npz", partition=DirichletPartition(alpha=1.0, min_samples=5)),
        model=ModelSettings(name=model),
        local=LocalSettings(**({"batch_size": 8, "steps": 5} | local)),
        seed=1,
        folder=folder,
        privacy=privacy,
    )


def learners(task: Task) -> list[Learner]:
    merge = AverageSettings()
    return [
        Learner(task, peer=name, position=k, peers=PEERS, merge=merge.load()(merge))
        for k, name in enumerate(names_of())
    ]


NETWORK = torch.nn.Sequential(
    torch.nn.Flatten(), torch.nn.Linear(6, 4), torch.nn.ReLU(), torch.nn.Linear(4, CLASSES)
)
SPACE = ParameterSpace.of(NETWORK)
FORWARD = Forward(NETWORK, SPACE)
NO_REST = torch.empty(0)


def loss_of(trained, rest, x, y):
    return cross_entropy(FORWARD(trained, rest, x), y)


def batch_of(seed: int, size: int, scale: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    trained = torch.randn(SPACE.trained_size, generator=g)
    x = scale * torch.randn(size, 6, generator=g)
    return trained, x, torch.randint(0, CLASSES, (size,), generator=g)


BATCHES = st.builds(
    batch_of, st.integers(0, 10_000), st.integers(1, 9), st.sampled_from([1e-3, 1.0, 1e3, 1e20])
)
"""The largest have squares that are not finite, and gradients whose squares are or are not."""
CLIPS = st.sampled_from([1e-3, 0.5, 1.0, 30.0])


def sum_of(trained, x, y, clip, counted=None):
    everybody = torch.ones(len(y), dtype=torch.bool) if counted is None else counted
    return per_sample.clipped(loss_of, trained, NO_REST, x, y, everybody, clip=clip)


@tried(1)
@given(BATCHES, CLIPS)
def test_no_sample_moves_the_sum_by_more_than_the_clipping_norm(batch, clip):
    trained, x, y = batch
    for place in range(len(y)):
        one, _ = sum_of(trained, x[place : place + 1], y[place : place + 1], clip)
        assert float(one.double().norm()) <= clip
    with_all, _ = sum_of(trained, x, y, clip)
    without_last, _ = sum_of(trained, x[:-1], y[:-1], clip) if len(y) > 1 else (torch.zeros_like(trained), 0)
    rounding = 1e-6 * len(y) * clip
    assert float((with_all - without_last).double().norm()) <= clip + rounding
    assert float(with_all.double().norm()) <= len(y) * clip


@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float32, 3e-5), (torch.float64, 1e-9)], ids=str)
@tried(1)
@given(BATCHES, CLIPS)
@example(batch_of(6323, 6, 1e20), 1e-3)  # a gradient that float32 can square, of a sample that it cannot
def test_the_sum_is_that_of_a_loop_over_the_samples_by_vmap_and_by_hand(dtype, allowed, batch, clip):
    trained, x = (each.to(dtype) for each in batch[:2])
    y = batch[2]
    # Logits of a thousand have few digits of a softmax left in float32.
    assume(dtype == torch.float64 or not 100 < float(x.abs().max()) < 1e10)
    wanted = torch.zeros(SPACE.trained_size, dtype=dtype)
    for place in range(len(y)):
        leaf = trained.clone().requires_grad_()
        (g,) = torch.autograd.grad(loss_of(leaf, NO_REST, x[place : place + 1], y[place : place + 1]), leaf)
        norm = float(g.square().sum().sqrt())
        if np.isfinite(norm):
            wanted += g * min(1.0, clip * (1 - per_sample.MARGIN) / max(norm, 1e-38))
    stack = LinearStack.of(NETWORK, SPACE)
    assert stack is not None
    by_hand, losses = stack.clipped(
        trained[None], x[None], y[None], torch.ones(1, len(y), dtype=torch.bool), clip
    )
    by_vmap, same_losses = sum_of(trained, x, y, clip)
    tolerance = allowed * max(1e-30, float(wanted.abs().max()))
    assert float((by_vmap - wanted).abs().max()) <= tolerance
    assert float((by_hand[0] - wanted).abs().max()) <= tolerance
    assert torch.allclose(losses[0], same_losses, rtol=1e-4, atol=1e-5)


def test_samples_that_pad_and_such_that_are_not_finite_count_for_nothing():
    trained, x, y = batch_of(3, 5, 1.0)
    x[1] = torch.nan
    counted = torch.tensor([True, True, False, True, False])
    wanted, _ = sum_of(trained, x[[0, 3]], y[[0, 3]], 1.0)
    stack = LinearStack.of(NETWORK, SPACE)
    assert stack is not None
    found, losses = sum_of(trained, x, y, 1.0, counted)
    by_hand, _ = stack.clipped(trained[None], x[None], y[None], counted[None], 1.0)
    assert torch.allclose(found, wanted, atol=1e-6)
    assert torch.allclose(by_hand[0], wanted, atol=1e-6)
    assert losses[1:3].tolist() == [0, 0]


def test_with_all_samples_no_bound_and_hardly_any_noise_it_is_the_plain_update(folder):
    nothing = private(clip=1e9, noise=1e-20, epsilon_max=1e60)
    for more in ({}, {"momentum": 0.9}, {"optimizer": {"kind": "adamw"}}, {"weight_decay": 0.1}):
        local = {"batch_size": 60, "steps": 4} | more
        task, plain = task_of(folder, nothing, **local), task_of(folder, PrivacySettings(), **local)
        mine, theirs = (learners(each)[0].train(each.initial(), round=0) for each in (task, plain))
        assert_close(mine.model, theirs.model)
        assert mine.loss == pytest.approx(theirs.loss, rel=1e-5)


@pytest.mark.parametrize(
    ("model", "method"), [("mlp", "linear-stack"), ("mlp", "vmap"), ("cnn", "vmap"), ("mlp", "loop")]
)
def test_a_node_and_its_row_of_the_stack_agree_where_their_chance_is_the_same(folder, model, method):
    task = task_of(folder, private(clip=0.7, noise=0.8), model, momentum=0.5, steps=3)
    with pytest.MonkeyPatch.context() as patch:
        known_entropy.know(patch)
        learning = BatchedLearning(task, names_of(), AverageSettings(), method=method)
        # Of one there are other steps than of the rest, as where a time decides.
        steps = [None, 5, None, 1]
        handles = [learning.train(learning.initial(k), k, round=2, steps=steps[k]) for k in range(PEERS)]
        alone = [
            learner.train(task.initial(), round=2, steps=count)
            for learner, count in zip(learners(task), steps, strict=True)
        ]
        for row, handle, mine in zip(learning.stack(handles), handles, alone, strict=True):
            assert_close(row, mine.model)
            assert learning.loss(handle) == pytest.approx(mine.loss, rel=1e-4, nan_ok=True)
            assert handle.epsilon == learning.budgets[handle.peer].epsilon > 0
        assert [budget.steps for budget in learning.budgets] == [3, 5, 3, 1]


def test_two_runs_differ_in_noise_and_nothing_of_it_is_drawn_of_the_seed(folder, monkeypatch):
    drawn: list[str] = []
    generator = seeding.generator
    monkeypatch.setattr(
        seeding,
        "generator",
        lambda seed, purpose, **more: (drawn.append(purpose), generator(seed, purpose, **more))[1],
    )
    task, plain = task_of(folder, private()), task_of(folder, PrivacySettings())
    for each in (task, plain):
        group = [learners(each)[0] for _ in range(2)]  # which draws the partition
        drawn.clear()
        one, other = (learner.train(each.initial(), round=0).model for learner in group)
        assert torch.equal(one, other) == (each is plain)
        assert drawn == ([] if each is task else ["batches"] * 2)
    # The same update done again, as after a kill, has other noise, too.
    learner = learners(task)[0]
    assert not torch.equal(
        learner.train(task.initial(), round=0).model, learner.train(task.initial(), round=0).model
    )


def test_noise_is_normal_of_the_wanted_size_and_each_sample_is_taken_as_often_as_said():
    noise = OPERATING_SYSTEM.normals(40_001)
    assert len(noise) == 40_001
    assert abs(noise.mean()) < 0.03
    assert abs(noise.std() - 1) < 0.03
    assert abs((np.abs(noise) > 1.96).mean() - 0.05) < 0.01
    taken = np.mean([len(OPERATING_SYSTEM.chosen(200, 0.1)) for _ in range(200)])
    assert abs(taken - 20) < 2
    assert len(OPERATING_SYSTEM.chosen(50, 1.0)) == 50
    total = torch.linspace(-1, 1, 30_000)
    noised = per_sample.noised(total, 5.0, [OPERATING_SYSTEM])
    assert abs(float((noised - total).std()) - 5) < 0.2


@pytest.mark.parametrize("method", ["linear-stack", "vmap", "loop"])
def test_a_spent_budget_leaves_the_model_as_it_is(folder, method):
    task = task_of(folder, private(epsilon_max=0.5, delta=1e-9))
    learner = learners(task)[0]
    done = learner.train(task.initial(), round=0)
    assert torch.equal(done.model, task.initial())
    assert (done.samples, done.steps, done.learnt) == (0, 0, False)
    learning = BatchedLearning(task, names_of(), AverageSettings(), method=method)
    signs: list[object] = []
    learning.watches.on_sign = lambda peer, sign: signs.append(sign)
    handles = [learning.train(learning.initial(k), k, round=0) for k in range(PEERS)]
    assert torch.equal(learning.stack(handles), task.initial().repeat(PEERS, 1))
    assert np.isnan(learning.loss(handles[0]))
    assert [budget.refused for budget in learning.budgets] == ["spent"] * PEERS
    assert not signs


def test_an_empty_mini_batch_is_a_step_of_noise(folder):
    task = task_of(folder, private(), batch_size=1, steps=40)
    learner = learners(task)[0]
    learner._training.private.entropy_of = lambda peer, round: Nobody()
    done = learner.train(task.initial(), round=0)
    assert done.steps == 40
    assert done.samples == 0
    assert not done.learnt
    assert bool(done.model.isfinite().all())
    assert not torch.equal(done.model, task.initial())


class Nobody(Seeded):
    """Takes no sample at all."""

    def __init__(self) -> None:
        super().__init__("", 0)

    def chosen(self, samples, rate):
        return np.empty(0, dtype=np.int64)


def test_settings_without_the_kind_are_no_privacy_and_say_so():
    with pytest.raises(ValueError, match="belongs to kind"):
        PrivacySettings(noise=2.0)


def test_what_mixes_samples_or_asks_twice_is_refused(folder):
    with pytest.raises(SettingError, match="BatchNorm"):
        task_of(folder, private(), "python:user.py:with_batch_norm").local_training()
    (folder / "centred.py").write_text(CENTRED, encoding="utf-8")
    with pytest.raises(SettingError, match="two samples together"):
        task_of(folder, private(), "python:centred.py:centred").check()
    task_of(folder, private(), "python:user.py:branching").check()

    class Declaring(AverageSettings().load()):
        declares_classes = True

    with pytest.raises(SettingError, match="the classes of which their sender has samples"):
        check_merge(task_of(folder, private()), Declaring(AverageSettings()))
    check_merge(task_of(folder, PrivacySettings()), Declaring(AverageSettings()))

    task = task_of(folder, private())
    learner = learners(task)[0]
    update = learner._training.update
    step = update.step
    update.step = lambda gradient, models, state, lr: (gradient(models), step(gradient, models, state, lr))[1]
    with pytest.raises(SettingError, match="more than one gradient a step"):
        learner.train(task.initial(), round=0)
    update.step = lambda gradient, models, state, lr: (gradient.losses(models), state)
    with pytest.raises(SettingError, match="goes by losses"):
        learner.train(task.initial(), round=0)


@pytest.mark.parametrize("model", ["python:user.py:branching", "python:user.py:with_dropout"])
def test_a_users_network_that_cannot_be_mapped_is_taken_sample_by_sample(folder, model):
    task = task_of(folder, private(clip=1e9, noise=1e-20, epsilon_max=1e60), model, batch_size=60, steps=2)
    done = learners(task)[0].train(task.initial(), round=0)
    assert bool(done.model.isfinite().all())
    if "branching" in model:
        plain = task_of(folder, PrivacySettings(), model, batch_size=60, steps=2)
        assert_close(done.model, learners(plain)[0].train(plain.initial(), round=0).model)
