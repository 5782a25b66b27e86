"""Laws of processes that compute beside an engine: the outcome is that of one process, whatever becomes of them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from gossip.errors import SettingError
from gossip.merging.settings import AverageSettings
from gossip.stages import PeerState, State
from scenarios import api
from scenarios.errors import RunFailed
from scenarios.processes.averages import load_task
from scenarios.scenario import load
from scenarios.virtual.assembly import learning_of
from scenarios.virtual.learning import batched, methods
from scenarios.virtual.learning.local_updates import LocalUpdates
from scenarios.virtual.learning.rows import PrivateRows, SharedRows
from scenarios.virtual.learning.workers import WORTHWHILE, Workers
from tests.virtual_learners import PEERS, deferred_round, names_of, task_of, write_task_files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with samples (1, 4, 4) of 3 classes and a user's networks."""
    return write_task_files(tmp_path_factory.mktemp("task"))


@pytest.mark.parametrize(
    ("model", "method"),
    [("mlp", "linear-stack"), ("python:user.py:with_batch_norm", "loop")],
)
def test_models_and_scores_are_the_same_to_the_bit_whoever_computes_them(folder, monkeypatch, model, method):
    monkeypatch.setattr(methods, "chunk_peers", lambda *_: 1)
    task = task_of(folder, model, batch_norm="reestimate", momentum=0.9, keep_momentum=True)
    found = []
    for count in (1, 2):
        with Workers(count) as workers:
            learning = batched.BatchedLearning(
                task, names_of(), AverageSettings(), method=method, workers=workers
            )
            models, kept = [learning.initial(peer) for peer in range(PEERS)], []
            for round in range(4):
                kept += models  # more and more rows, also those that came after the fork
                models = deferred_round(learning, models, round)
                learning.flush()
                if round == 1:
                    learning.begin_anew(2)  # here, and so for all of them
            memory = learning.remember(1).rows
            assert memory is not None
            scores = [(each.loss, each.score, each.samples) for each in learning.evaluate(models)]
            found.append((learning.stack(models), scores, memory["update.velocity"]))
    (one, told, velocity), (other, told_too, velocity_too) = found
    assert torch.equal(one, other)
    assert torch.equal(velocity, velocity_too)
    assert velocity.any()
    assert told == told_too


def test_what_fails_in_a_worker_fails_here_with_the_same_error():
    here = os.getpid()

    def job(order: int) -> int:
        if order == 2:
            raise SettingError("two is no order" if os.getpid() == here else "said to nobody")
        return 10 * order

    with Workers(2) as workers:
        workers.add("tens", job)
        assert workers.run("tens", [0, 1, 3]) == [0, 10, 30]
        with pytest.raises(SettingError, match="two is no order"):
            workers.run("tens", [1, 2])


def test_a_worker_that_is_killed_costs_its_time_and_nothing_else(caplog):
    here = os.getpid()

    def job(order: int) -> list[int]:
        if order == 1 and os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return [order, os.getpid()]

    with Workers(2) as workers:
        workers.add("echo", job)
        orders = list(range(6))
        pids = {pid for _, pid in workers.run("echo", [0, 2, 3, 4])} - {here}
        assert [order for order, _ in workers.run("echo", orders)] == orders
        assert "a worker process has ended (-9)" in caplog.text
        assert {pid for _, pid in workers.run("echo", [2, 3])}.isdisjoint({here})  # the other goes on
        assert [order for order, _ in workers.run("echo", orders)] == orders
        assert [order for order, _ in workers.run("echo", orders)] == orders  # nobody is left but this one
    assert pids
    for pid in pids:
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


@pytest.mark.parametrize("dies", ["before it writes", "while it writes"])
def test_a_worker_killed_while_it_writes_what_peers_remember_ends_the_run_and_changes_no_result(
    folder, monkeypatch, dies
):
    monkeypatch.setattr(methods, "chunk_peers", lambda *_: 1)
    task, here, scatter = task_of(folder, momentum=0.9, keep_momentum=True), os.getpid(), PeerState.scatter

    def killed(state: PeerState, stage: str, peers: list[int], rows: State) -> None:
        if os.getpid() != here and peers == [1]:
            if dies == "while it writes":
                scatter(state, stage, peers, {key: row / 2 for key, row in rows.items()})
            os.kill(os.getpid(), signal.SIGKILL)
        scatter(state, stage, peers, rows)

    def two_rounds(count: int) -> torch.Tensor:
        with Workers(count) as workers:
            learning = batched.BatchedLearning(task, names_of(), AverageSettings(), workers=workers)
            models = [learning.initial(peer) for peer in range(PEERS)]
            for round in range(2):
                models = deferred_round(learning, models, round)
                learning.flush()
            return learning.stack(models)

    undisturbed = two_rounds(1)
    monkeypatch.setattr(PeerState, "scatter", killed)
    if dies == "while it writes":
        with pytest.raises(RunFailed, match="was killed while it wrote"):
            two_rounds(2)
    else:
        monkeypatch.setattr(
            LocalUpdates,
            "_scatter",
            lambda updates, peers, rows: killed(updates._state, "update", peers, rows),
        )
        assert torch.equal(two_rounds(2), undisturbed)


def test_rows_that_are_shared_stay_when_there_are_more_of_them():
    rows = SharedRows(2, 3)
    rows.vectors[:] = torch.arange(6.0).view(2, 3)
    before = rows.vectors
    rows.grow(1000)
    assert torch.equal(rows.vectors[:2], before)
    rows.vectors[1, 1] = -1
    assert before[1, 1] == -1
    assert not rows.vectors[2:].any()


def test_rows_of_one_process_stay_too_whether_somebody_looks_at_them_or_not():
    rows = PrivateRows(2, 3, torch.device("cpu"))
    rows.vectors[:] = torch.arange(6.0).view(2, 3)
    rows.grow(1000)
    assert torch.equal(rows.vectors[:2], torch.arange(6.0).view(2, 3))
    rows.vectors[999] = 7.0
    seen = rows.vectors[:2]
    rows.grow(5000)
    assert torch.equal(rows.vectors[:2], seen)
    assert rows.vectors[999, 2] == 7
    rows.grow(9000)  # a copy by now
    assert rows.vectors.shape == (9000, 3)
    assert rows.vectors[999, 2] == 7


@pytest.mark.parametrize(
    ("wanted", "device", "parts", "multiplications", "count"),
    [
        (None, "cpu", 64, WORTHWHILE / 2, 1),
        (None, "cpu", 1, 2 * WORTHWHILE, 1),
        (None, "cpu", 64, 2 * WORTHWHILE, 3),
        (None, "cpu", 2, 2 * WORTHWHILE, 2),
        (None, "meta", 64, 2 * WORTHWHILE, 1),
        (5, "cpu", 1, 1.0, 5),
    ],
)
def test_by_default_there_are_workers_where_they_pay(
    monkeypatch, wanted, device, parts, multiplications, count
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    workers = Workers(wanted)
    workers.settle(torch.device(device), parts, multiplications)
    assert workers.count == count


@pytest.mark.parametrize(("every", "count"), [(1, 3), (60, 1)])
def test_what_is_evaluated_counts_as_work_that_workers_may_share(monkeypatch, every, count):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    overrides = ["scenario.peers=400", "data.partition={ kind = 'iid' }", "local.steps=1", "stop.rounds=60"]
    settings = load("quickstart", overrides=(*overrides, f"evaluate.every={every}"))
    with Workers(None) as workers:
        learning_of(settings, load_task(settings), {}, workers)
        assert workers.count == count


def test_workers_that_cannot_be_are_refused(tmp_path):
    for count in (0, 257, -1):
        with pytest.raises(SettingError, match="must be 1 to 256"):
            Workers(count)
    with pytest.raises(SettingError, match="everything is computed there"):
        Workers(2).settle(torch.device("meta"), 2, 1.0)
    with pytest.raises(SettingError, match="every peer is a process already"):
        api.run("quickstart", engine="processes", workers=2, out=tmp_path / "run")
