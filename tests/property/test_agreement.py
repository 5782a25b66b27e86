"""What a majority of models agree on, in both engines."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from hypothesis import given
from hypothesis import strategies as st

from gossip.learner import Learner
from gossip.learning.task import Task
from gossip.merging.agreement import agreed
from gossip.merging.settings import AverageSettings
from gossip.protocols.base import Contribution
from scenarios.processes.averages import load_task
from scenarios.scenario import load
from scenarios.virtual.engine import VirtualRun

values = st.floats(-5, 5, width=32)
vectors = st.lists(values, min_size=3, max_size=3).map(torch.tensor)
false = st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=3, max_size=3).map(torch.tensor)


@given(st.data(), st.integers(1, 3))
def test_f_false_models_of_2f_plus_1_leave_every_coordinate_between_the_honest(data, f):
    honest = [data.draw(vectors) for _ in range(f + 1)]
    lies = [data.draw(false) for _ in range(f)]
    found = agreed(data.draw(vectors), data.draw(st.permutations(honest + lies)))
    stacked = torch.stack(honest)
    assert bool((found >= stacked.min(dim=0).values).all())
    assert bool((found <= stacked.max(dim=0).values).all())


@given(vectors, vectors, false)
def test_of_two_one_of_which_is_false_the_own_model_decides(own, honest, lie):
    found = agreed(own, [honest, lie])
    assert bool((found >= torch.minimum(own, honest)).all())
    assert bool((found <= torch.maximum(own, honest)).all())


@given(vectors, vectors, st.integers(1, 3))
def test_equal_models_have_exactly_themselves(own, model, f):
    assert torch.equal(agreed(own, [model] * (2 * f + 1)), model)
    assert torch.equal(agreed(own, []), own)


def both_engines() -> tuple[Task, VirtualRun, Learner, Sequence[str]]:
    """Return six peers' task, in the virtual engine, and the first one's learner as a node has it."""
    scenario = load("modest", overrides=["scenario.peers=6", "protocol.sample_size=3", "model.hidden=[8]"])
    task = load_task(scenario)
    rule = AverageSettings().load()(AverageSettings())
    learner = Learner(task, peer=scenario.peer_names[0], position=0, peers=6, merge=rule)
    return task, VirtualRun(scenario, task), learner, scenario.peer_names


def test_a_learner_and_the_virtual_engine_agree_on_the_same_and_leave_out_what_is_refused():
    task, run, learner, names = both_engines()
    own = task.initial()
    others = [own + 0.1 * number for number in (1, 2, 3)]
    others.append(torch.full_like(own, float("nan")))
    received = [Contribution(name, model, 1.0) for name, model in zip(names[1:5], others, strict=True)]
    handles = [
        Contribution(each.sender, run.learning.from_vector(each.model, number + 1), 1.0)
        for number, each in enumerate(received)
    ]
    virtual = run.learning.vector(run.learning.agreed(run.learning.from_vector(own, 0), handles))
    learned = task.space.learned_size
    assert torch.equal(virtual[:learned], others[1][:learned])
    assert torch.equal(virtual, learner.agreed(own, received))


def test_whom_a_liar_gave_a_model_of_zeros_takes_the_honest_majoritys_all_the_same():
    """Beside zeros of its own and one liar's, models of usual length would seem too long."""
    task, run, learner, names = both_engines()
    honest = task.initial()
    own = torch.zeros_like(honest)
    received = [
        Contribution(name, model.clone(), 1.0)
        for name, model in zip(names[1:4], (honest, own, honest), strict=True)
    ]
    handles = [
        Contribution(each.sender, run.learning.from_vector(each.model, number + 1), 1.0)
        for number, each in enumerate(received)
    ]
    assert torch.equal(learner.agreed(own, received), honest)
    assert torch.equal(
        run.learning.vector(run.learning.agreed(run.learning.from_vector(own, 0), handles)), honest
    )
