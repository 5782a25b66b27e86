"""As many local steps as fit a time: the rule, what it is in stacks and on a node, and what a run gains by it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gossip.config import load_task
from gossip.errors import SettingError
from gossip.learner import Learner
from gossip.learning.settings import LocalSettings
from gossip.learning.steps_by_deadline import StepsByDeadline
from gossip.node.context import TrainingJob
from gossip.node.handles import Deferred
from scenarios import api
from tests.laws import tried
from tests.virtual_learners import PEERS, assert_close, batched, learners, task_of, write_task_files

UNEVEN = """
[scenario]
name = "uneven"
peers = 6
algorithm = "dfedavg"
[data]
train_max = 600
test_max = 100
[local]
steps = 20
batch_size = 4
[topology]
kind = "full"
[network]
latency_ms = 10
[compute]
seconds_per_sample = 0.01
stragglers = 0.5
slowdown = 8.0
[stop]
rounds = 8
"""
"""A fast peer's step takes 0.04 s, a slow one's 0.32 s."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_task_files(tmp_path_factory.mktemp("task"))


@tried(1)
@given(st.floats(0.1, 100), st.floats(1e-3, 10), st.integers(1, 50), st.integers(0, 200), st.integers(1, 5))
def test_updates_end_in_time_unless_the_fewest_steps_take_longer(deadline_s, step_s, least, more, updates):
    settings = LocalSettings(deadline_s=deadline_s, steps_min=least, steps_max=least + more)
    paces, twin = StepsByDeadline(settings), StepsByDeadline(settings)
    assert paces.steps() == least, "nothing is known yet"
    for _ in range(updates):
        for each in (paces, twin):
            steps = each.steps()
            each.took(steps * step_s, steps=steps)
        steps = paces.steps()
        assert least <= steps <= least + more
        assert steps == twin.steps(), "equal speeds, equal steps"
        assert steps * step_s <= deadline_s * (1 + 1e-9) or steps == least
        assert (steps + 1) * step_s > deadline_s * (1 - 1e-9) or steps == least + more


def test_what_is_known_follows_a_machine_that_gets_slower():
    paces = StepsByDeadline(LocalSettings(deadline_s=10.0, steps_min=1, steps_max=1000))
    paces.took(10.0, steps=100)
    assert paces.steps() == 100
    paces.took(100.0, steps=100)
    assert paces.steps() == int(10.0 / (0.1 * 0.1 + 0.9 * 1.0))


@pytest.mark.parametrize("method", ["linear-stack", "vmap", "loop"])
@pytest.mark.parametrize("batch_size", [8, 64], ids=["mini-batches", "whole shards"])
def test_a_stack_of_unequal_steps_is_each_peers_own(folder, method, batch_size):
    task = task_of(folder, batch_size=batch_size, momentum=0.9)
    learning, group = batched(task, method), learners(task)
    counts = [3, 11, None, 1, 7, 2, 5, 3][:PEERS]
    handles = [learning.train(learning.initial(k), k, round=2, steps=counts[k]) for k in range(PEERS)]
    for k, learner in enumerate(group):
        trained = learner.train(learner.initial(), round=2, steps=counts[k])
        assert trained.steps == (counts[k] or 5)
        assert_close(learning.vector(handles[k]), trained.model)
        assert learning.loss(handles[k]) == pytest.approx(trained.loss, rel=1e-4)


class Clocked(Learner):
    """Its clock moves by a second for each step."""

    now_s = 0.0
    asked: list[int | None]

    def train(self, model: torch.Tensor, *, steps: int | None = None, **how: object):  # type: ignore[override]
        self.asked.append(steps)
        trained = super().train(model, steps=steps, **how)  # type: ignore[arg-type]
        self.now_s += trained.steps
        return trained


def test_a_node_measures_its_own_steps(folder, monkeypatch):
    task = task_of(folder, steps=None, deadline_s=9.0, steps_min=2, steps_max=30)
    merge = learners(task)[0]._merge
    learner = Clocked(task, peer="p0", position=0, peers=PEERS, merge=merge)
    learner.asked = []
    monkeypatch.setattr("gossip.node.context.time.perf_counter", lambda: learner.now_s)
    paces = StepsByDeadline.of(task.local_settings)
    for round in range(3):
        TrainingJob(learner, Deferred(task.space.learned_size, learner.initial()), round, paces)()
    assert learner.asked == [2, 9, 9]


def run(tmp_path: Path, name: str, *overrides: str) -> dict:
    path = tmp_path / "uneven.toml"
    path.write_text(UNEVEN)
    return api.run(path, out=tmp_path / name, overrides=list(overrides), report=False).summary


def test_rounds_take_the_deadline_and_the_same_seed_is_the_same_run(tmp_path):
    deadline = ("local.deadline_s=0.8", "local.steps_min=2")
    fixed, first, again = run(tmp_path, "f"), run(tmp_path, "d", *deadline), run(tmp_path, "e", *deadline)
    assert fixed["time"] > 4 * first["time"]
    # In the first update all do two steps; then the fast do twenty, and the slow two.
    assert first["time"] == pytest.approx(2 * 0.32 + 7 * 0.8 + 8 * 0.01, rel=0.05)
    assert (again["event_digest"], again["model_digest"]) == (first["event_digest"], first["model_digest"])


def test_a_deadline_takes_the_place_of_a_presets_epochs_and_is_agreed_on():
    plain = load_task(arguments={"algorithm": "dfedavg"})
    task = load_task(arguments={"algorithm": "dfedavg"}, overrides=["local.deadline_s=2"])
    assert task.local.epochs is None
    assert task.local.deadline_s == 2.0
    assert task.agreement()["local"] != plain.agreement()["local"]
    same = load_task(
        arguments={"algorithm": "dfedavg"}, overrides=["protocol.deadline_s=2", "protocol.steps_max=50"]
    )
    assert (same.local.deadline_s, same.local.steps_max) == (2.0, 50)
    below = {"algorithm": "dfedavg", "local": {"deadline_s": 2.0}}
    back = load_task(arguments=below, overrides=["local.steps=3"])
    assert (back.local.deadline_s, back.local.steps) == (None, 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[local]\nsteps = 3\ndeadline_s = 1.0\n", "'steps' and 'deadline_s' exclude each other"),
        ("[local]\ndeadline_s = 0.0\n", "deadline_s"),
        ("[local]\nsteps_max = 10\n", "belong to deadline_s, which is not set"),
        (
            "[local]\ndeadline_s = 1.0\nsteps_min = 9\nsteps_max = 3\n",
            "steps_min = 9 is above steps_max = 3",
        ),
        (
            "[protocol]\ndeadline_s = 1.0\n[local]\ndeadline_s = 2.0\n",
            r"task.toml:2: protocol.deadline_s is local.deadline_s, which is written, too",
        ),
        ("local = 3\n[protocol]\ndeadline_s = 1.0\n", "'local' must be a section"),
    ],
)
def test_what_does_not_go_together_is_said(tmp_path, text, said):
    path = tmp_path / "task.toml"
    path.write_text(text)
    with pytest.raises(SettingError, match=said):
        load_task(path)


def test_a_protocol_of_ones_own_may_have_a_deadline_of_its_own(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import gossip\n"
        "class Mine(gossip.Protocol):\n"
        "    messages = ()\n"
        "    class Settings(gossip.Settings):\n"
        "        deadline_s: float = 1.0\n"
    )
    path = tmp_path / "task.toml"
    path.write_text('[protocol]\nkind = "python:mine.py:Mine"\n')
    task = load_task(path, overrides=["protocol.deadline_s=3"])
    assert task.protocol.deadline_s == 3
    assert task.local.deadline_s is None
