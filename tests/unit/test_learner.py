"""One peer's learning, and what several make of it: S8–S10 against plain loops that share no code with us."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gossip.errors import ProtocolMisuse
from gossip.learner import Learner
from gossip.learning import batches
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.learning.task import Task
from gossip.merging import Average
from gossip.merging.base import Merge
from gossip.protocols.base import Contribution, GossipStep

PEERS = 4
DATA = DataSettings(train_max=160, test_max=100, partition={"kind": "dirichlet", "alpha": 0.5})


def make_task(folder: Path | None = None, *, data: DataSettings = DATA, model=None, **local) -> Task:
    return Task(
        data=data,
        model=model or ModelSettings(),
        local=LocalSettings(**local),
        seed=3,
        folder=folder or Path(),
    )


def learners(task: Task, peers: int = PEERS) -> list[Learner]:
    return [Learner(task, peer=f"p{k}", position=k, peers=peers, merge=Average()) for k in range(peers)]


def round_of(
    group: list[Learner], models: list[torch.Tensor], W: np.ndarray, round: int
) -> list[torch.Tensor]:
    """One round of adapt-then-combine through learners."""
    trained = [learner.train(model, round=round).model for learner, model in zip(group, models, strict=True)]
    learned = [vector[: group[0].task.space.learned_size] for vector in trained]
    merged = []
    for i, learner in enumerate(group):
        received = [
            Contribution(f"p{j}", learned[j], float(W[i, j])) for j in range(len(group)) if j != i and W[i, j]
        ]
        merged.append(learner.merge(trained[i], float(W[i, i]), received, at=GossipStep(round)))
    return merged


def plain_round(modules: list[nn.Module], task: Task, round: int, lr: float) -> None:
    """Train every module in place: nothing but torch.nn and torch.optim."""
    for k, module in enumerate(modules):
        shard = task.shard(k, len(modules))
        optimiser = torch.optim.SGD(module.parameters(), lr=lr)
        plan = batches.epochs(len(shard), task.local_settings, seed=task.seed, peer=f"p{k}", round=round)
        for epoch in plan:
            for chosen in torch.split(torch.from_numpy(epoch.order), list(epoch.sizes)):
                optimiser.zero_grad()
                cross_entropy(module(shard.x[chosen]), shard.y[chosen]).backward()
                optimiser.step()


def plain_mix(modules: list[nn.Module], W: np.ndarray) -> None:
    states = [copy.deepcopy(module.state_dict()) for module in modules]
    for i, module in enumerate(modules):
        module.load_state_dict(
            {
                name: sum(float(W[i, j]) * states[j][name].double() for j in range(len(modules))).float()
                for name in states[0]
            }
        )


RING = np.array([[1, 1, 0, 1], [1, 1, 1, 0], [0, 1, 1, 1], [1, 0, 1, 1]]) / 3
FULL = np.full((PEERS, PEERS), 1 / PEERS)


@pytest.mark.parametrize(
    ("local", "W"),
    [({"steps": 1}, RING), ({"epochs": 2}, FULL), ({"epochs": 1, "lr_decay": 0.5}, RING)],
    ids=["s9-one-step-is-d-psgd", "s10-full-graph-is-fedavg", "dfedavg"],
)
def test_rounds_without_sam_equal_an_independent_plain_loop(local, W):
    task = make_task(**local)
    group = learners(task)
    models = [learner.initial() for learner in group]
    modules = [copy.deepcopy(task.module) for _ in group]
    for round in range(3):
        models = round_of(group, models, W, round)
        plain_round(modules, task, round, task.local_settings.lr * task.local_settings.lr_decay**round)
        plain_mix(modules, W)
    for model, module in zip(models, modules, strict=True):
        assert torch.allclose(model, task.space.flatten_module(module), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(models[0], task.initial(), atol=1e-3)


def test_s10_on_the_full_graph_all_peers_hold_the_fedavg_model():
    group = learners(make_task(epochs=1))
    models = round_of(group, [learner.initial() for learner in group], FULL, 0)
    for model in models[1:]:
        assert torch.allclose(model, models[0], rtol=0, atol=1e-6)


def test_s8_without_neighbours_dfedsam_is_local_sam():
    task = make_task(sam_rho=0.1, epochs=1)
    group = learners(task)
    models = [learner.initial() for learner in group]
    alone = models[2]
    for round in range(2):
        models = round_of(group, models, np.eye(PEERS), round)
        shard = task.shard(2, PEERS)
        alone = (
            task.local_training().run(alone, shard.x, shard.y, seed=task.seed, peer="p2", round=round).model
        )
    assert torch.equal(models[2], alone)


def test_one_peer_learns_digits():
    task = make_task(data=DataSettings(), epochs=5)
    learner = learners(task, peers=1)[0]
    model = learner.initial()
    losses = []
    for round in range(10):
        trained = learner.train(model, round=round)
        model = trained.model
        losses.append(trained.loss)
    assert learner.evaluate(model).score > 0.93
    assert losses[-1] < losses[0] / 5


def test_no_method_changes_its_arguments():
    learner = learners(make_task(momentum=0.9, sam_rho=0.1))[0]
    own, other = learner.initial(), learner.initial(independent=True)
    before = [own.clone(), other.clone()]
    learner.train(own, round=0)
    merged = learner.merge(own, 0.5, [Contribution("b", other, 0.5)], at=GossipStep(0))
    learner.merge(own, 1.0, [], at=GossipStep(0)).zero_()
    learner.adopt(own, [Contribution("b", other, 1.0)]).zero_()
    learner.evaluate(own)
    assert torch.equal(own, before[0])
    assert torch.equal(other, before[1])
    assert torch.allclose(merged, (own + other) / 2, atol=1e-7)


NORMED = """
from torch import nn
def make(input_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, classes))
"""


@pytest.fixture
def normed(tmp_path: Path) -> Path:
    (tmp_path / "normed.py").write_text(NORMED)
    return tmp_path


def test_statistics_never_leave_a_peer_nor_come_from_another(normed):
    task = make_task(normed, model=ModelSettings(name="python:normed.py:make"))
    a, b = learners(task)[:2]
    trained_a, trained_b = (learner.train(learner.initial(), round=0).model for learner in (a, b))
    size = task.space.learned_size
    assert size < task.space.size
    merged = a.merge(trained_a, 0.5, [Contribution("p1", trained_b[:size], 0.5)], at=GossipStep(0))
    assert torch.equal(merged[size:], trained_a[size:])
    assert not torch.equal(merged[:size], trained_a[:size])
    adopted = a.adopt(trained_a, [Contribution("p1", trained_b[:size], 1.0)])
    assert torch.equal(adopted[size:], trained_a[size:])
    assert torch.equal(adopted[:size], trained_b[:size])


def test_reestimation_before_evaluation_repairs_statistics_that_fit_other_weights(normed):
    spoiled = {}
    for policy in ("local", "reestimate"):
        model = ModelSettings(name="python:normed.py:make", batch_norm=policy)
        task = make_task(normed, model=model, data=DataSettings(), epochs=3)
        learner = learners(task, peers=1)[0]
        vector = learner.train(learner.initial(), round=0).model
        slot = task.space.slot("2.running_mean")
        vector[slot.offset : slot.end] += 50
        spoiled[policy] = learner.evaluate(vector).score
        assert vector[slot.offset : slot.end].min() > 40
    assert spoiled["local"] < 0.5 < 0.85 < spoiled["reestimate"]


def test_a_rule_sees_what_it_may_know():
    seen = []

    class Curious(Merge):
        def __call__(self, own, own_weight, received, *, context):
            logits = context.predict(own, context.x)
            seen.append((context, logits.shape, context.rng("draw").random()))
            return own.clone()

    task = make_task()
    learner = Learner(task, peer="p1", position=1, peers=PEERS, merge=Curious())
    for step in range(2):
        learner.merge(learner.initial(), 1.0, [], at=GossipStep(4, step=step, last=step == 1))
    context, shape, _ = seen[1]
    assert (context.peer, context.at) == ("p1", GossipStep(4, step=1))
    assert shape == (len(learner.shard), 10)
    assert context.space is task.space
    assert seen[0][2] == seen[1][2]


def test_vectors_of_another_space_are_refused():
    learner = learners(make_task())[0]
    for call in (
        lambda: learner.train(torch.zeros(3), round=0),
        lambda: learner.evaluate(learner.initial().double()),
        lambda: learner.merge(
            torch.zeros(3), 0.5, [Contribution("b", learner.initial(), 0.5)], at=GossipStep(0)
        ),
        lambda: learner.adopt(torch.zeros(3), [Contribution("b", learner.initial(), 1.0)]),
    ):
        with pytest.raises(ProtocolMisuse):
            call()


def test_the_front_imports_no_torch_until_it_is_needed():
    code = (
        "import sys, gossip, gossip.learning, gossip.merging, gossip.learning.settings; "
        "assert 'torch' not in sys.modules; assert gossip.__version__; "
        "gossip.merging; gossip.protocols; assert 'torch' not in sys.modules; "
        "assert gossip.ParameterSpace and gossip.Task and 'torch' in sys.modules; "
        "assert 'sklearn' not in sys.modules; "
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=Path(__file__).parents[2])
