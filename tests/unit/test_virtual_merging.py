"""Laws of deferred merges: what they come to is what each peer's own learner would merge."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from gossip.errors import ProtocolMisuse
from gossip.learner import Learner
from gossip.merging.base import Merge
from gossip.merging.settings import AverageSettings, VarianceCorrectedSettings
from gossip.protocols.base import Contribution, GossipStep, Part
from gossip.settings import Choice
from scenarios.virtual.learning.batched import BatchedLearning
from tests.virtual_learners import (
    PEERS,
    assert_close,
    batched,
    deferred_round,
    learners,
    names_of,
    own_round,
    task_of,
    write_task_files,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with samples (1, 4, 4) of 3 classes and a user's networks."""
    return write_task_files(tmp_path_factory.mktemp("task"))


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
    assert len(learning.deferred) == (0 if ended == 0 else 3)
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
