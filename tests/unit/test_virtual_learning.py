"""Laws of deferred, batched learning: what it computes is what each peer's own learner would."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gossip.errors import ProtocolMisuse
from gossip.learning.divergence import Watch, rms_of
from scenarios.virtual.learning import requests
from scenarios.virtual.learning.arena import Arena, Handle
from tests.virtual_learners import (
    PEERS,
    assert_close,
    assert_rounds_agree,
    batched,
    deferred_round,
    learners,
    task_of,
    write_task_files,
)

VARIANTS = {
    "sgd": {},
    "momentum": {"momentum": 0.9},
    "sam": {"sam_rho": 0.05},
    "adaptive-sam": {"sam": "adaptive", "sam_rho": 0.5},
    "everything": {"momentum": 0.5, "sam_rho": 0.1, "weight_decay": 0.01, "clip_norm": 0.5},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with samples (1, 4, 4) of 3 classes and a user's networks."""
    return write_task_files(tmp_path_factory.mktemp("task"))


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


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize(
    "further", [{}, {"steps": None, "epochs": 2}], ids=["5 steps", "unlike numbers of steps"]
)
def test_models_are_trained_to_the_same_bit_wherever_they_lie(folder, monkeypatch, variant, further):
    task = task_of(folder, "mlp", **variant | further)
    found = []
    for adjoining in (Arena.adjoining, lambda arena, rows: None):
        monkeypatch.setattr(Arena, "adjoining", adjoining)
        learning = batched(task, "linear-stack")
        starts = [learning.initial(k) for k in range(PEERS)]
        trained = [learning.train(start, k, round=0) for k, start in enumerate(starts)]
        found.append(learning.stack(trained))
        assert torch.equal(learning.stack(starts), task.initial().expand(PEERS, -1)), (
            "theirs stay as they were"
        )
    assert torch.equal(*found)


OWN_UPDATES = """
import gossip
from gossip.learning.updates.sgd import Sgd

class Backwards(Sgd):
    def step(self, gradient, models, state, lr):
        return models + lr * gradient(models), state

class Twice(gossip.LocalUpdate):
    def step(self, gradient, models, state, lr):
        return models - lr * (gradient(models) + gradient(models * 0)), state
"""


@pytest.mark.parametrize("update", ["Backwards", "Twice"])
def test_a_users_own_step_has_its_gradients_to_itself(folder, update):
    (folder / "own_updates.py").write_text(OWN_UPDATES, encoding="utf-8")
    optimizer = {"kind": f"python:{folder / 'own_updates.py'}:{update}"}
    assert_rounds_agree(task_of(folder, optimizer=optimizer, lr=0.05), "linear-stack", rounds=2)


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


@pytest.mark.parametrize(("model", "method"), [("mlp", "linear-stack"), ("with_batch_norm", "vmap")])
def test_the_norm_noted_of_a_trained_model_is_that_of_what_is_learned(folder, model, method):
    task = task_of(folder, model if model == "mlp" else f"python:user.py:{model}")
    learning = batched(task, method)
    handles = [learning.train(learning.initial(peer), peer, round=3) for peer in range(PEERS)]
    vectors = learning.stack(handles)[:, : task.space.learned_size]
    noted = torch.tensor([handle.norm for handle in handles])
    assert_close(noted, vectors.norm(dim=1))


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
    assert len(learning.deferred) < 256
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
