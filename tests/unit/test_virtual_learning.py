"""Laws of deferred, batched learning: what it computes is what each peer's own learner would."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gossip.errors import ProtocolMisuse, SettingError
from gossip.learner import Learner
from gossip.learning.divergence import Watch, rms_of
from gossip.learning.local_training import PADDING
from gossip.learning.settings import (
    DataSettings,
    DirichletPartition,
    IidPartition,
    LocalSettings,
    ModelSettings,
)
from gossip.learning.task import Task
from gossip.merging.base import Merge
from gossip.merging.settings import MERGES, AverageSettings, VarianceCorrectedSettings
from gossip.parameters import ParameterSpace
from gossip.protocols.base import Contribution, GossipStep, Part
from gossip.settings import Choice
from scenarios.virtual.learning import requests, training
from scenarios.virtual.learning.arena import Arena, Handle
from scenarios.virtual.learning.batched import BatchedLearning
from scenarios.virtual.learning.linear_stack import LinearStack

VARIANTS = {
    "sgd": {},
    "momentum": {"momentum": 0.9},
    "sam": {"sam_rho": 0.05},
    "adaptive-sam": {"sam": "adaptive", "sam_rho": 0.5},
    "everything": {"momentum": 0.5, "sam_rho": 0.1, "weight_decay": 0.01, "clip_norm": 0.5},
}
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with samples (1, 4, 4) of 3 classes and a user's networks."""
    path = tmp_path_factory.mktemp("task")
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


def assert_rounds_agree(task: Task, method: str, *, rounds: int = 1) -> None:
    learning, group = batched(task, method), learners(task)
    handles = [learning.initial(k, independent=True) for k in range(PEERS)]
    models = [learner.initial(independent=True) for learner in group]
    for round in range(rounds):
        handles = deferred_round(learning, handles, round)
        models = own_round(group, models, round)
    for mine, theirs in zip(learning.stack(handles), models, strict=True):
        assert_close(mine, theirs)
    assert not torch.allclose(models[0], task.initial("p0"), atol=1e-3)


def test_peers_start_as_the_model_section_says(folder):
    for init in ("shared", "independent"):
        task = task_of(folder, init=init)
        learning, group = batched(task), learners(task)
        starts = learning.stack([learning.initial(k) for k in range(PEERS)])
        assert torch.equal(starts, torch.stack([learner.initial() for learner in group]))
        assert len({tuple(start.tolist()) for start in starts}) == (1 if init == "shared" else PEERS)


# --- training --------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize(
    ("model", "method"),
    [
        ("logistic", "linear-stack"),
        ("logistic", "vmap"),
        ("mlp", "linear-stack"),
        ("mlp", "vmap"),
        ("mlp", "loop"),
        ("cnn", "vmap"),
        ("cnn", "auto"),
        ("lenet-gn", "vmap"),
        ("python:user.py:with_batch_norm", "vmap"),
        ("python:user.py:with_batch_norm", "loop"),
    ],
)
def test_a_round_of_five_steps_equals_each_peers_own(folder, model, method, variant):
    assert_rounds_agree(task_of(folder, model, **variant), method)


def test_a_large_residual_network_equals_each_peers_own(folder):
    task = task_of(folder, "resnet18-gn", steps=1, batch_size=4, lr=0.01)
    learning, learner = batched(task, "vmap"), learners(task)[2]
    pair = [learning.train(learning.initial(k), k, round=0) for k in (1, 2)]
    assert_close(learning.stack(pair)[1], learner.train(learner.initial(), round=0).model)


@pytest.mark.parametrize("method", ["linear-stack", "vmap", "loop"])
@pytest.mark.parametrize("model", ["mlp", "python:user.py:with_batch_norm"])
def test_a_momentum_buffer_that_is_kept_lives_on_through_merges(folder, model, method):
    if (model, method) == ("python:user.py:with_batch_norm", "linear-stack"):
        method = "auto"
    task = task_of(folder, model, steps=None, epochs=1, lr=0.01, momentum=0.9, keep_momentum=True)
    assert_rounds_agree(task, method, rounds=4)


@pytest.mark.parametrize("method", ["linear-stack", "loop"])
def test_single_steps_with_the_momentum_kept_are_one_long_update(folder, method):
    whole = {"batch_size": 64, "lr": 0.05, "momentum": 0.9}
    single = batched(task_of(folder, **whole, steps=1, keep_momentum=True), method)
    long = batched(task_of(folder, **whole, steps=6), method)
    model = single.initial(0)
    for round in range(6):
        model = single.train(model, 0, round=round)
    assert_close(single.vector(model), long.vector(long.train(long.initial(0), 0, round=0)))


@pytest.mark.parametrize("method", ["linear-stack", "loop"])
def test_the_momentum_is_the_peers_whatever_model_it_is_handed_and_ends_with_its_process(folder, method):
    """As a client of FedAvg, who trains a model that others made. Nothing else puts the updates in order."""
    task = task_of(folder, batch_size=16, steps=1, lr=0.05, momentum=0.9, keep_momentum=True)
    learning, (learner, *_) = batched(task, method), learners(task)
    starts = [torch.randn(task.space.size, generator=torch.Generator().manual_seed(k)) for k in range(4)]
    handles = []
    for round, start in enumerate(starts):
        if round == 2:
            learning.begin_anew(0)
        handles.append(learning.train(learning.from_vector(start, 0), 0, round=round))
    first, second = (learner.train(start, round=round).model for round, start in enumerate(starts[:2]))
    anew = learners(task)[0]
    wanted = [first, second, *(anew.train(starts[round], round=round).model for round in (2, 3))]
    for handle, model in zip(handles, wanted, strict=True):
        assert_close(learning.vector(handle), model)
    alone = learners(task)[0].train(starts[1], round=1).model
    assert not torch.allclose(second, alone, atol=1e-4)


@pytest.mark.parametrize("method", ["linear-stack", "vmap"])
@pytest.mark.parametrize(
    "local",
    [
        {"steps": None, "epochs": 2},
        {"steps": None, "epochs": 3, "batch_size": 64},
        {"steps": 7, "batch_size": 16},
    ],
    ids=["ragged-epochs", "whole-shards", "some-whole-shards"],
)
def test_peers_with_shards_of_different_size_take_their_own_number_of_steps(folder, method, local):
    task = task_of(folder, lr_decay=0.5, **local)
    sizes = [len(shard) for shard in task.partition(PEERS)]
    assert len(set(sizes)) > 2
    assert_rounds_agree(task, method, rounds=3)


def test_batch_norm_keeps_batches_of_different_size_apart(folder):
    task = task_of(folder, "python:user.py:with_batch_norm", steps=None, epochs=2)
    assert_rounds_agree(task, "vmap", rounds=2)


def test_losses_are_those_that_each_peer_would_report(folder):
    task = task_of(folder, steps=None, epochs=2)
    learning, group = batched(task), learners(task)
    handles = [learning.train(learning.initial(k), k, round=3) for k in range(PEERS)]
    for k, learner in enumerate(group):
        outcome = learner.train(learner.initial(), round=3)
        assert learning.loss(handles[k]) == pytest.approx(outcome.loss, rel=1e-5)
        assert learning.samples(k) == outcome.samples
    with pytest.raises(ProtocolMisuse, match="no trained model"):
        learning.loss(learning.initial(0))


@pytest.mark.parametrize("method", ["linear-stack", "vmap", "loop"])
def test_a_peers_divergence_shows_as_on_its_node(folder, method):
    task = task_of(folder, steps=None, epochs=2, lr=50.0)
    learning = batched(task, method)
    signs = {}
    learning.watches.on_sign = lambda peer, sign: signs.setdefault(peer, []).append(sign)
    for round in range(2):
        for k in range(PEERS):
            learning.train(learning.initial(k), k, round=round)
    learning.flush()
    for k, learner in enumerate(learners(task)):
        watch = Watch(chance=math.log(task.dataset.classes), rms=rms_of(task.initial()))
        trained = learner.train(learner.initial(), round=0)
        sign = watch.trained(
            round=0,
            loss=trained.loss,
            first_loss=trained.first_loss,
            steps=trained.steps,
            skipped=trained.skipped,
        )
        (found,) = signs[k]  # the first is the last
        assert replace(found, loss=0, limit=0) == replace(sign, loss=0, limit=0)
        assert (found.loss, found.limit) == pytest.approx((sign.loss, sign.limit), rel=1e-3)


@pytest.mark.parametrize("model", ["mlp", "python:user.py:with_batch_norm"])
def test_trainings_of_different_rounds_in_one_stack_have_their_own_step_size_and_order(folder, model):
    task = task_of(folder, model, lr_decay=0.5, steps=None, epochs=2)
    learning, group = batched(task), learners(task)
    handles = [learning.train(learning.initial(k), k, round=2 * k) for k in range(PEERS)]
    for k, vector in enumerate(learning.stack(handles)):
        assert_close(vector, group[k].train(group[k].initial(), round=2 * k).model)


@pytest.mark.parametrize("method", ["linear-stack", "vmap", "loop"])
def test_a_step_with_an_infinite_gradient_is_skipped_for_that_peer_alone(folder, method):
    task = task_of(folder, momentum=0.9)
    learning = batched(task, method)
    broken = task.initial()
    broken[3] = math.inf
    one = learning.train(learning.from_vector(broken, 0), 0, round=0)
    other = learning.train(learning.initial(1), 1, round=0)
    assert torch.equal(learning.vector(one), broken)
    assert math.isnan(learning.loss(one))
    assert sum(learning.watches.skipped) == 5
    assert learning.watches.skipped[:2] == [5, 0]
    own = learners(task)[1]
    assert_close(learning.vector(other), own.train(own.initial(), round=0).model)


@pytest.mark.parametrize("model", ["mlp", "python:user.py:with_batch_norm"])
def test_an_update_is_added_to_another_model_as_on_a_node(folder, model):
    task = task_of(folder, model)
    learning, group = batched(task), learners(task)
    size = task.space.learned_size
    before = [task.initial(f"before{k}") for k in range(PEERS)]
    base = [task.initial(f"base{k}") for k in range(PEERS)]
    trained, moved = [], []
    for k in range(PEERS):
        start = learning.from_vector(before[k], k)
        trained.append(learning.train(learning.train(start, k, round=0), k, round=1))
        moved.append(learning.moved(learning.from_vector(base[k], k), start, trained[k]))
    for k, (after, found) in enumerate(zip(learning.stack(trained), learning.stack(moved), strict=True)):
        given = after.clone()
        assert torch.equal(found, group[k].moved(base[k], before[k], given))
        assert torch.equal(given, after), "whoever may still need it finds it as it was"
        assert torch.equal(found[:size], base[k][:size] + (after[:size] - before[k][:size]))
        assert torch.equal(found[size:], after[size:]), "what never travels is the update's"
        assert group[k].moved(base[k], before[k], given, in_place=True).data_ptr() == given.data_ptr()
        assert torch.equal(given, found)


# --- deferring -------------------------------------------------------------------------------------


def test_when_values_are_looked_at_changes_no_bit(folder):
    results = []
    for look in (False, True):
        learning = batched(task_of(folder, steps=None, epochs=2))
        handles = [learning.initial(k) for k in range(PEERS)]
        for round in range(4):
            handles = deferred_round(learning, handles, round)
            if look:
                learning.flush()
        results.append(learning.stack(handles))
    assert torch.equal(*results)


def test_nothing_is_computed_before_somebody_looks(folder, monkeypatch):
    learning = batched(task_of(folder))
    computed = []
    monkeypatch.setattr(requests, "levels", lambda pending, ordered: computed.append(len(pending)) or [])
    deferred_round(learning, [learning.initial(k) for k in range(PEERS)], 0)
    assert computed == []
    learning.flush()
    assert computed == [2 * PEERS]


def test_outstanding_work_is_bounded(folder):
    learning = batched(task_of(folder, steps=1))
    model = learning.initial(0)
    for round in range(300):
        model = learning.train(model, 0, round=round)
    assert model.row < 0, "the last ones still wait"
    assert len(learning._deferred) < 256
    assert learning.rows_used == 1, "only the newest computed model is needed"


def test_a_row_is_free_again_when_nothing_refers_to_its_model(folder):
    learning = batched(task_of(folder, steps=1))
    handles = [learning.initial(k) for k in range(PEERS)]
    rows = len(learning._arena.vectors)
    for round in range(30):
        handles = deferred_round(learning, handles, round)
        if round % 7 == 0:
            learning.flush()
    learning.flush()
    assert learning.rows_used == PEERS
    assert len(learning._arena.vectors) <= max(rows, 4 * PEERS)
    del handles
    assert learning.rows_used == 0


@given(st.lists(st.one_of(st.integers(1, 9), st.tuples(st.integers(0, 20))), max_size=40))
def test_no_two_living_models_share_a_row_and_growing_keeps_their_values(operations):
    arena = Arena(3, rows=2, device=torch.device("cpu"))
    alive: list[tuple[list[Handle], float]] = []
    for number, operation in enumerate(operations):
        if isinstance(operation, tuple):
            del alive[operation[0] : operation[0] + 1]
            continue
        rows = arena.take(operation)
        assert rows == sorted(rows)
        arena.put(rows, torch.full((operation, 3), float(number)))
        handles = [Handle(0, None, arena.free) for _ in rows]
        for handle, row in zip(handles, rows, strict=True):
            handle.place(row)
        alive.append((handles, float(number)))
        del handles, handle  # else the last ones live on
    rows = [handle.row for handles, _ in alive for handle in handles]
    assert len(rows) == len(set(rows)) == arena.rows_used
    for handles, value in alive:
        assert (arena.at([handle.row for handle in handles]) == value).all()
    for handles, value in alive:
        shuffled = [handle.row for handle in reversed(handles)]
        assert (arena.at(shuffled) == value).all()


# --- merging and adopting --------------------------------------------------------------------------


def test_what_never_travels_stays_with_its_peer(folder):
    task = task_of(folder, "python:user.py:with_batch_norm")
    assert 0 < task.space.learned_size < task.space.size
    learning, group = batched(task, "vmap"), learners(task)
    handles = [learning.initial(k, independent=True) for k in range(PEERS)]
    models = [learner.initial(independent=True) for learner in group]
    for round in range(2):
        handles = deferred_round(learning, handles, round)
        models = own_round(group, models, round)
    adopted = learning.adopt(handles[0], [Contribution("p2", handles[2], 1.0)])
    expected = group[0].adopt(models[0], [Contribution("p2", models[2][: task.space.learned_size], 1.0)])
    assert adopted.peer == 0
    assert_close(learning.vector(adopted), expected)
    split = task.space.learned_size
    assert not torch.allclose(models[0][split:], models[2][split:], atol=1e-3)


def test_adopting_and_training_on_in_one_go_equals_doing_it_step_by_step(folder):
    task = task_of(folder)
    learning, group = batched(task), learners(task)
    far = learning.train(learning.initial(2), 2, round=5)
    mine = learning.train(learning.adopt(learning.initial(0), [Contribution("p2", far, 1.0)]), 0, round=6)
    vector = group[2].train(group[2].initial(), round=5).model
    assert_close(learning.vector(mine), group[0].train(vector, round=6).model)


@pytest.mark.parametrize("weights", [(0.5, 0.6), (1.5, -0.5), (math.nan, 0.5)])
def test_weights_that_are_no_row_of_a_mixing_matrix_are_refused(folder, weights):
    learning = batched(task_of(folder))
    own, other = learning.initial(0), learning.initial(1)
    learning.merge(own, 1.0, [], peer=0, at=GossipStep(0))
    learning.merge(own, weights[0], [Contribution("p1", other, weights[1])], peer=0, at=GossipStep(0))
    with pytest.raises(ProtocolMisuse, match="weight"):
        learning.flush()


class Remembering(Merge):
    """Moves towards the first received model by half, then back by a quarter of the last own model it saw."""

    def __init__(self, settings: RememberingSettings) -> None:
        self.before: list[torch.Tensor] = []
        self.rounds: list[tuple[int, int, bool]] = []

    def __call__(self, own, own_weight, received, *, context):
        merged = own + 0.5 * (received[0].model - own)
        for before in self.before:
            merged = merged - 0.25 * before
        self.before = [own, received[0].model]  # kept, not copied: whoever calls must not write on them again
        self.rounds.append((context.at.round, context.at.step, context.at.last))
        return merged


class RememberingSettings(Choice):
    """Settings of a rule that keeps what it is given."""

    kind: str = "remembering"
    implementation = ""

    def load(self):
        return Remembering


def test_a_rule_that_remembers_sees_what_it_sees_in_a_node(folder):
    task, choice = task_of(folder, steps=1), RememberingSettings()
    learning, group = batched(task, merge=choice), learners(task, choice)
    handles = [learning.initial(k, independent=True) for k in range(PEERS)]
    models = [learner.initial(independent=True) for learner in group]
    for round in range(4):
        handles = deferred_round(learning, handles, round)
        models = own_round(group, models, round)
    for mine, theirs in zip(learning.stack(handles), models, strict=True):
        assert_close(mine, theirs)


def test_a_rule_that_remembers_sees_its_merges_in_the_order_of_asking(folder):
    task, choice = task_of(folder, steps=1), RememberingSettings()
    learning = batched(task, merge=choice)
    start = learning.initial(0)
    deep = learning.train(learning.train(start, 1, round=0), 1, round=1)
    for round, received in enumerate((deep, start, deep, start)):
        learning.merge(start, 0.5, [Contribution("p1", received, 0.5)], peer=0, at=GossipStep(round))
    learning.flush()
    assert [seen[0] for seen in learning._processes[0].learner._merge.rounds] == [0, 1, 2, 3]


FORGETFUL = {
    "average": AverageSettings(),
    "variance-corrected": VarianceCorrectedSettings(quiet_merges=2),
    "alone": RememberingSettings(),
}


@pytest.mark.parametrize("looks", [False, True], ids=["deferred", "looked-at"])
@pytest.mark.parametrize("choice", FORGETFUL.values(), ids=FORGETFUL)
def test_what_a_peer_merges_after_a_restart_is_what_a_new_process_would(folder, choice, looks):
    """Its rule's memory is gone and nobody is muted any more, while what was asked for before still sees both."""
    task = task_of(folder)
    learning = batched(task, merge=choice)
    split = task.space.learned_size
    own, one, two = (task.initial_of(f"p{k}", independent=True) for k in range(3))
    broken = torch.full_like(two, math.nan)
    before, after = [(own, broken), (own, broken), (one, broken), (one, broken)], [(one, two), (two, one)]

    def merge_all(learner: Learner, events, first_round: int) -> list[torch.Tensor]:
        return [
            learner.merge(
                own,
                0.5,
                [Contribution("p1", a[:split], 0.25), Contribution("p2", b[:split], 0.25)],
                at=GossipStep(round),
            )
            for round, (a, b) in enumerate(events, first_round)
        ]

    survivor = learners(task, choice)[0]
    wanted = merge_all(survivor, before, 0)
    wanted += merge_all(learners(task, choice)[0], after, 4)
    assert not torch.allclose(merge_all(survivor, after, 4)[0], wanted[4], rtol=1e-3), "nothing to forget"

    mine = learning.from_vector(own, 0)
    handles = []
    for round, (a, b) in enumerate([*before, *after]):
        if round == 4:
            learning.begin_anew(0)
        if round < 4:  # at the end of a long chain: the last to be computed, if nothing puts it in order
            for step in range(3):
                mine = learning.graft(mine, learning.from_vector(own, 0), Part(step, 3))
        else:
            mine = learning.from_vector(own, 0)
        received = [
            Contribution(name, learning.from_vector(model, k), 0.25)
            for k, (name, model) in enumerate((("p1", a), ("p2", b)), 1)
        ]
        handles.append(learning.merge(mine, 0.5, received, peer=0, at=GossipStep(round)))
        if looks:
            learning.flush()
    for handle, model in zip(handles, wanted, strict=True):
        assert_close(learning.vector(handle), model)


def test_a_peer_takes_over_a_model_after_a_restart_that_it_had_muted_the_sender_of(folder):
    learning, task = batched(task_of(folder)), task_of(folder)
    own, other = learning.initial(0), task.initial_of("p1", independent=True)
    broken = learning.from_vector(torch.full_like(other, math.nan), 1)
    for round in range(3):
        learning.merge(own, 0.5, [Contribution("p1", broken, 0.5)], peer=0, at=GossipStep(round))
    good = [Contribution("p1", learning.from_vector(other, 1), 1.0)]
    refused = learning.adopt(own, good)
    learning.begin_anew(0)
    taken = learning.adopt(own, good)
    assert torch.equal(learning.vector(refused), learning.vector(own))
    assert torch.equal(learning.vector(taken), other)


@pytest.mark.parametrize("ended", [0, 1])
def test_a_restart_is_that_peers_alone_and_computes_nothing_that_it_did_not_ask_for(folder, ended):
    choice = VarianceCorrectedSettings(quiet_merges=2)
    learning = batched(task_of(folder), merge=choice)
    own, other = learning.initial(0), learning.initial(1, independent=True)
    for round in range(3):
        learning.merge(own, 0.5, [Contribution("p2", own, 0.5)], peer=0, at=GossipStep(round))
    learning.begin_anew(ended)
    assert len(learning._deferred) == (0 if ended == 0 else 3)
    apart = learning.merge(own, 0.5, [Contribution("p1", other, 0.5)], peer=0, at=GossipStep(3))
    plain = batched(task_of(folder))
    average = plain.merge(
        plain.initial(0),
        0.5,
        [Contribution("p1", plain.initial(1, independent=True), 0.5)],
        peer=0,
        at=GossipStep(3),
    )
    corrected = not torch.allclose(learning.vector(apart), plain.vector(average), atol=1e-3)
    assert corrected == (ended == 0), "off after so many quiet merges, but not in a new process"


CORRECTED = {
    "every-merge": {"quiet_merges": 0},
    "now-off-now-on": {"quiet_merges": 2, "quiet_scale": 1.35},
    "others": {"target": "others", "ratio": 0.7},
    "median": {"over": "median", "ndim_min": 0, "numel_min": 2},
    "nothing-to-correct": {"numel_min": 10**6},
}


@pytest.mark.parametrize("settings", CORRECTED.values(), ids=CORRECTED)
@pytest.mark.parametrize("model", ["mlp", "python:user.py:with_batch_norm"])
def test_corrected_averages_of_all_peers_equal_each_peers_own(folder, model, settings):
    task, choice = task_of(folder, model, steps=1), VarianceCorrectedSettings(**settings)
    learning, group = batched(task, "vmap", choice), learners(task, choice)
    handles = [learning.initial(k, independent=True) for k in range(PEERS)]
    models = [learner.initial(independent=True) for learner in group]
    averages = BatchedLearning(task, names_of(), AverageSettings(), method="vmap")
    plain = [averages.initial(k, independent=True) for k in range(PEERS)]
    for round in range(6):
        handles = deferred_round(learning, handles, round)
        models = own_round(group, models, round)
        plain = deferred_round(averages, plain, round)
    for mine, theirs in zip(learning.stack(handles), models, strict=True):
        assert_close(mine, theirs, 1e-4)
    same = torch.allclose(learning.stack(handles), averages.stack(plain), atol=1e-3)
    assert same == ("numel_min" in settings and settings["numel_min"] > 2)
    alone = [process for process in learning._processes.values() if process.learner is not None]
    assert not alone, "no peer merged by itself"


def test_gossip_steps_of_peers_in_different_rounds_are_corrected_as_each_peers_own(folder):
    task, choice = task_of(folder), VarianceCorrectedSettings(quiet_merges=3, quiet_scale=1.3)
    learning, group = batched(task, merge=choice), learners(task, choice)
    learned = task.space.learned_size
    handles = [learning.initial(k, independent=True) for k in range(PEERS)]
    models = [learner.initial(independent=True) for learner in group]
    starts = learning.stack(handles)
    for turn in range(12):
        # Peer k takes k + 1 gossip steps in each round; some hear of nobody.
        for k in range(PEERS):
            others = [j for j in range(PEERS) if j != k][: (turn + k) % PEERS]
            weight = 1 / (len(others) + 1)
            at = GossipStep(turn // (k + 1), step=turn % (k + 1), last=turn % (k + 1) == k)
            received = [Contribution(f"p{j}", handles[j], weight) for j in others]
            own = [Contribution(f"p{j}", models[j][:learned], weight) for j in others]
            handles[k] = learning.merge(handles[k], weight, received, peer=k, at=at)
            models[k] = group[k].merge(models[k], weight, own, at=at)
    for mine, theirs, start in zip(learning.stack(handles), models, starts, strict=True):
        assert_close(mine, theirs, 1e-4)
        assert not torch.allclose(mine, start, atol=1e-2)


def test_no_correction_touches_what_is_not_learned(folder):
    task = task_of(folder, "python:user.py:with_batch_norm", steps=1)
    choice = VarianceCorrectedSettings(ndim_min=0, numel_min=2, quiet_merges=0)
    group = learners(task, choice)
    models = [learner.train(learner.initial(independent=True), round=0).model for learner in group]
    merged = own_round(group, models, 1)
    trained = [learner.train(model, round=1).model for learner, model in zip(group, models, strict=True)]
    split = task.space.learned_size
    for mine, before in zip(merged, trained, strict=True):
        assert torch.equal(mine[split:], before[split:])
        assert not torch.equal(mine[:split], before[:split])


# --- evaluating ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "method", "batch_norm"),
    [
        ("logistic", "linear-stack", "local"),
        ("mlp", "linear-stack", "local"),
        ("mlp", "vmap", "local"),
        ("cnn", "vmap", "local"),
        ("cnn", "loop", "local"),
        ("python:user.py:with_batch_norm", "vmap", "local"),
        ("python:user.py:with_batch_norm", "vmap", "reestimate"),
    ],
)
def test_evaluations_equal_each_peers_own(folder, model, method, batch_norm):
    task = task_of(folder, model, batch_norm=batch_norm)
    learning, group = batched(task, method), learners(task)
    handles = deferred_round(learning, [learning.initial(k, independent=True) for k in range(PEERS)], 0)
    evaluations = learning.evaluate(handles)
    for learner, handle, evaluation in zip(group, handles, evaluations, strict=True):
        expected = learner.evaluate(learning.vector(handle))
        assert evaluation.score == expected.score
        assert evaluation.samples == expected.samples
        assert evaluation.loss == pytest.approx(expected.loss, rel=1e-5)


def test_a_restart_from_a_vector_goes_on_as_without(folder):
    learning = batched(task_of(folder))
    trained = learning.train(learning.initial(1), 1, round=0)
    again = learning.from_vector(learning.vector(trained), 1)
    pair = [learning.train(model, 1, round=1) for model in (trained, again)]
    assert torch.equal(*learning.stack(pair))
    with pytest.raises(ProtocolMisuse, match="shape"):
        learning.from_vector(torch.zeros(3), 1)


# --- choosing the method ---------------------------------------------------------------------------


def test_the_method_suits_the_network(folder):
    expected = {
        "mlp": "linear-stack",
        "logistic": "linear-stack",
        "python:user.py:with_batch_norm": "vmap",
        "python:user.py:with_dropout": "loop",
        "python:user.py:branching": "loop",
    }
    for model, method in expected.items():
        learning = batched(task_of(folder, model))
        assert learning.method == method, learning.reason
        assert learning.reason
    assert batched(task_of(folder, "mlp"), "vmap").method == "vmap"


def test_networks_that_vmap_cannot_run_learn_as_their_nodes_do(folder):
    for model in ("branching", "with_dropout"):
        assert_rounds_agree(task_of(folder, f"python:user.py:{model}"), "auto", rounds=2)


@pytest.mark.parametrize(
    ("limit", "ratio", "method"),
    [
        (1e9, 0.5, "vmap"),
        (1e9, 2.9, "vmap"),
        (1e9, 3.1, "loop"),
        (1e3, 2.0, "loop"),
        (1e3, 0.4, "loop"),
        (1e3, 0.3, "vmap"),
    ],
)
def test_with_convolutions_arithmetic_decides_unless_measuring_is_decisive(
    folder, monkeypatch, limit, ratio, method
):
    monkeypatch.setattr(training, "MULTIPLICATIONS_MAX", limit)
    monkeypatch.setattr(training, "_measured_ratio", lambda trial: ratio)
    learning = batched(task_of(folder, "cnn"))
    assert learning.method == method
    assert f"{ratio}" in learning.reason


def test_measuring_leaves_no_trace(folder):
    task = task_of(folder, "cnn")
    before = task.initial()
    training.choose(task, "auto", device=torch.device("cpu"), batch_size=8)
    assert torch.equal(task.initial(), before)
    assert not any(module._forward_hooks for module in task.module.modules())


def test_multiplications_of_convolutions_are_counted(folder):
    # 3×3 filters: 16 on a channel of 4×4 pixels, then 32 on 16 channels of 2×2.
    assert training._multiplications(task_of(folder, "cnn")) == 16 * (16 * 9) + 4 * (32 * 16 * 9)
    assert training._multiplications(task_of(folder, "mlp")) == 0


@pytest.mark.parametrize(
    ("model", "method"),
    [("mlp", "fast"), ("cnn", "linear-stack"), ("python:user.py:with_dropout", "vmap")],
)
def test_a_method_that_cannot_be_is_refused(folder, model, method):
    with pytest.raises(SettingError, match=f"method = '{method}'"):
        batched(task_of(folder, model), method)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no card here")
@pytest.mark.parametrize("kind", ["average", "variance-corrected", "median", "ubar"])
def test_peers_on_a_card_learn_what_they_learn_on_the_cpu(folder, kind):
    merge = MERGES.validate({"kind": kind, **({"f": 1} if kind == "median" else {})})
    found = []
    for device in ("cpu", "cuda"):
        learning = BatchedLearning(task_of(folder), names_of(), merge, device=device)
        models = deferred_round(learning, [learning.initial(peer) for peer in range(PEERS)], 0)
        found.append(learning.stack(deferred_round(learning, models, 1)).cpu())
    assert_close(*found)


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_a_device_that_is_not_there_is_refused_in_one_sentence(folder, device):
    with pytest.raises(SettingError, match=f"device = '{device}'") as caught:
        BatchedLearning(task_of(folder), names_of(), AverageSettings(), device=device)
    assert "\n" not in str(caught.value)


# --- the gradient by hand --------------------------------------------------------------------------


def mlp(*widths: int, bias: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@given(
    widths=st.lists(st.integers(1, 7), min_size=2, max_size=4),
    models=st.integers(1, 4),
    sizes=st.lists(st.integers(1, 5), min_size=4, max_size=4),
    seed=st.integers(0, 2**32),
    bias=st.booleans(),
)
def test_the_gradient_by_hand_is_the_gradient(widths, models, sizes, seed, bias):
    module = mlp(*widths, 3, bias=bias)
    space = ParameterSpace.of(module)
    stack = LinearStack.of(module, space)
    assert stack is not None
    g = torch.Generator().manual_seed(seed)
    trained = torch.randn(models, space.size, generator=g)
    x = torch.randn(models, max(sizes), widths[0], generator=g)
    y = torch.randint(0, 3, (models, max(sizes)), generator=g)
    for k in range(models):
        y[k, sizes[k] :] = PADDING
    gradients, losses, _ = stack.gradient(trained, trained[:, :0], x, y)
    for k in range(models):
        leaf = trained[k].clone().requires_grad_()
        logits = torch.func.functional_call(module, space.unflatten(leaf), (x[k, : sizes[k]],))
        loss = nn.functional.cross_entropy(logits, y[k, : sizes[k]])
        (expected,) = torch.autograd.grad(loss, leaf)
        assert torch.allclose(gradients[k], expected, rtol=1e-4, atol=1e-6)
        assert float(losses[k]) == pytest.approx(float(loss.detach()), rel=1e-5, abs=1e-6)


def test_only_plain_linear_networks_have_a_gradient_by_hand():
    hooked = mlp(4, 3)
    hooked[1].register_forward_hook(lambda *_: None)
    with_dropout = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Dropout(), nn.Linear(3, 3))
    frozen = mlp(4, 3, 3)
    frozen[1].weight.requires_grad_(False)
    tied = mlp(4, 4, 4)
    tied[3].weight = tied[1].weight
    for module in (hooked, with_dropout, frozen, tied, nn.Linear(4, 3)):
        assert LinearStack.of(module, ParameterSpace.of(module)) is None
    assert LinearStack.of(mlp(4, 3), ParameterSpace.of(mlp(4, 3))) is not None


def test_shards_of_one_sample_and_of_two_share_a_stack(folder):
    task = task_of(folder, partition=IidPartition(), steps=2, batch_size=4)
    peers = 40  # 60 samples: one or two each
    learning, group = batched(task, peers=peers), learners(task, peers=peers)
    handles = [learning.train(learning.initial(k), k, round=0) for k in range(peers)]
    for learner, vector in zip(group, learning.stack(handles), strict=True):
        assert_close(vector, learner.train(learner.initial(), round=0).model)
