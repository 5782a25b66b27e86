"""Laws of outer steps: what is none, closed forms, guards, node = row of the stack, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gossip.config.outer import FACTOR_MAX, FACTORS, RATES, factor
from gossip.errors import SettingError
from gossip.learner import Learner
from gossip.learning.outer import OuterSteps
from gossip.learning.outer_settings import NO_OUTER, OuterSettings
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.learning.task import Task
from gossip.learning.updates.base import UpdateContext
from gossip.merging.settings import AverageSettings
from gossip.protocols.base import Contribution, GossipStep
from gossip.stages import State
from scenarios.scenario import load
from scenarios.virtual.learning.batched import BatchedLearning

SIZE = 3
RATE = st.sampled_from([0.1, 0.3, 0.5, 0.7, 1.0, 1.4])
MOMENTUM = st.sampled_from([0.0, 0.3, 0.5, 0.9])


def at(round: int, peers: int = 1) -> UpdateContext:
    return UpdateContext(torch.full((peers, 1), float(round)), torch.full((peers, 1), 0.1))


def rows(settings: OuterSettings, peers: int = 1) -> State:
    momentum = {"momentum": torch.zeros(peers, SIZE)} if settings.mu else {}
    one = torch.zeros(peers, 1)
    return {"start": torch.zeros(peers, SIZE), **momentum, "previous": one, "moved": one}


def done(outer: OuterSteps, begun: Tensor, moved: Tensor, state: State, round: int) -> State:
    """Do a local update that moves models by -`moved`."""
    return outer.end(begun - moved, state, at(round, len(begun)), torch.ones(len(begun), 1))


def starts(settings: OuterSettings, displacement: Tensor, rounds: int) -> Tensor:
    """Return where updates begin that all move a model, which nobody mixes, by -`displacement` (T,): (rounds, T)."""
    outer, state, model = OuterSteps(settings), rows(settings), torch.zeros(1, SIZE)
    found = []
    for round in range(rounds):
        begun, state = outer.begin(model, state, at(round))
        state = done(outer, begun, displacement, state, round)
        model = begun - displacement
        found.append(begun[0])
    return torch.stack(found)


@given(RATE, st.integers(2, 12))
def test_a_share_of_the_way_is_heavy_ball_without_momentum_to_the_bit(rate, rounds):
    displacement = torch.tensor([1.0, -2.0, 0.3])
    lerp = starts(OuterSettings(kind="lerp", rate=rate), displacement, rounds)
    heavy = starts(OuterSettings(kind="heavy-ball", rate=rate, momentum=0.0), displacement, rounds)
    assert torch.equal(lerp, heavy)
    torch.testing.assert_close(lerp[-1], -rate * (rounds - 1) * displacement, rtol=1e-5, atol=1e-5)


@given(RATE, MOMENTUM, st.integers(2, 12))
def test_on_a_constant_displacement_momenta_are_what_the_geometric_series_says(rate, mu, rounds):
    d = torch.tensor([1.0, -2.0, 0.3])
    nesterov = starts(OuterSettings(kind="nesterov", rate=rate, momentum=mu), d, rounds)
    heavy = starts(OuterSettings(kind="heavy-ball", rate=rate, momentum=mu), d, rounds)
    for step in range(1, rounds):
        series = (1 - mu**step) / (1 - mu)
        torch.testing.assert_close(nesterov[step - 1] - nesterov[step], rate * (1 + mu * series) * d)
        torch.testing.assert_close(heavy[step - 1] - heavy[step], rate * series * d)


@given(RATE, MOMENTUM, st.integers(0, 2**16))
def test_the_sum_of_all_momenta_does_not_depend_on_how_models_are_mixed(rate, mu, seed):
    settings = OuterSettings(kind="heavy-ball", rate=rate, momentum=mu)
    outer, peers = OuterSteps(settings), 4
    generator = torch.Generator().manual_seed(seed)
    mixings = [torch.eye(peers)[torch.randperm(peers, generator=generator)] for _ in range(3)]
    doubly_stochastic = sum(mixings) / 3
    sums = []
    for mixing in (torch.eye(peers), doubly_stochastic):
        state, models = rows(settings, peers), torch.ones(peers, SIZE)
        for round in range(2):
            begun, state = outer.begin(models, state, at(round, peers))
            moved = torch.arange(1.0, 1 + peers * SIZE).reshape(peers, SIZE) / 10 + 1
            state = done(outer, begun, moved, state, round)
            models = mixing @ (begun - moved) if round == 0 else begun - moved
        sums.append((begun.sum(0), state["momentum"].sum(0) if mu else torch.zeros(SIZE)))
    torch.testing.assert_close(*sums)


@pytest.mark.parametrize("kind", ["heavy-ball", "nesterov", "lerp"])
@pytest.mark.parametrize("why", ["first", "gap", "again", "far", "nan", "no-step"])
def test_without_an_update_in_the_round_before_or_with_a_model_from_elsewhere_there_is_none(kind, why):
    settings = OuterSettings(kind=kind, rate=0.5)
    outer, state, model = OuterSteps(settings), rows(settings), torch.zeros(1, SIZE)
    if why != "first":
        for round in range(2):
            begun, state = outer.begin(model, state, at(round))
            steps = torch.zeros(1, 1) if why == "no-step" and round else torch.ones(1, 1)
            state = outer.end(begun - 1, state, at(round), steps)
            model = begun - 1
    handed = {"far": model - 20, "nan": model * torch.nan}.get(why, model)
    begun, after = outer.begin(handed, state, at({"gap": 3, "again": 1}.get(why, 2)))
    assert torch.equal(begun, handed) or why == "nan"
    if settings.mu:
        assert not after["momentum"].any()
    if why not in ("nan", "first"):
        usual, _ = outer.begin(model, {**state, "previous": torch.full((1, 1), 2.0)}, at(2))
        assert not torch.equal(usual, model)


# --- whole updates ---


def task_of(tmp: Path, *, outer: OuterSettings = NO_OUTER, **local: Any) -> Task:
    return Task(
        data=DataSettings(train_max=90, test_max=20, partition={"kind": "dirichlet", "alpha": 0.5}),
        model=ModelSettings(name="mlp", hidden=(8,)),
        local=LocalSettings(lr=0.2, epochs=1, batch_size=8, **local),
        seed=3,
        folder=tmp,
        outer=outer,
    )


KINDS = [
    OuterSettings(kind="heavy-ball"),
    OuterSettings(kind="nesterov", rate=0.5, momentum=0.7),
    OuterSettings(kind="lerp", rate=0.4),
]
WEIGHT = 0.25


def nodes_rounds(task: Task, rounds: int) -> list[Tensor]:
    peers = 3
    rule = AverageSettings()
    group = [
        Learner(task, peer=f"p{k}", position=k, peers=peers, merge=rule.load()(rule)) for k in range(peers)
    ]
    models = [task.initial() for _ in range(peers)]
    for round in range(rounds):
        trained = [learner.train(models[k], round=round).model for k, learner in enumerate(group)]
        models = [
            learner.merge(
                trained[k],
                1 - 2 * WEIGHT,
                [Contribution(f"p{j}", trained[j], WEIGHT) for j in range(peers) if j != k],
                at=GossipStep(round),
            )
            for k, learner in enumerate(group)
        ]
    return models


def virtual_rounds(task: Task, rounds: int, method: str) -> list[Tensor]:
    peers = 3
    learning = BatchedLearning(task, [f"p{k}" for k in range(peers)], AverageSettings(), method=method)
    models = [learning.initial(k) for k in range(peers)]
    for round in range(rounds):
        trained = [learning.train(models[k], k, round=round) for k in range(peers)]
        models = [
            learning.merge(
                trained[k],
                1 - 2 * WEIGHT,
                [Contribution(f"p{j}", trained[j], WEIGHT) for j in range(peers) if j != k],
                peer=k,
                at=GossipStep(round),
            )
            for k in range(peers)
        ]
    return list(learning.stack(models))


@pytest.mark.parametrize("outer", KINDS, ids=lambda outer: outer.kind)
@pytest.mark.parametrize(
    ("method", "local"),
    [
        ("linear-stack", {}),
        ("vmap", {"momentum": 0.9, "keep_momentum": True}),
        ("loop", {"sam_rho": 0.1}),
        ("linear-stack", {"optimizer": {"kind": "adamw"}}),
    ],
    ids=["stack", "momentum", "sam", "adamw"],
)
def test_a_row_of_the_stack_is_what_its_node_does(outer, method, local, tmp_path):
    task = task_of(tmp_path, outer=outer, **local)
    alone, plain = nodes_rounds(task, 4), nodes_rounds(task_of(tmp_path, **local), 4)
    for mine, theirs, without in zip(virtual_rounds(task, 4, method), alone, plain, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(theirs, without, atol=1e-3)


@pytest.mark.parametrize(
    "outer",
    [
        OuterSettings(kind="heavy-ball", rate=1.0, momentum=0.0),
        OuterSettings(kind="nesterov", rate=1.0, momentum=0.0),
        OuterSettings(kind="lerp", rate=1.0),
    ],
    ids=lambda outer: outer.kind,
)
def test_the_whole_way_without_momentum_is_no_outer_step_to_the_bit(outer, tmp_path):
    for one, other in zip(
        nodes_rounds(task_of(tmp_path, outer=outer), 3), nodes_rounds(task_of(tmp_path), 3), strict=True
    ):
        assert torch.equal(one, other)


def test_what_is_handed_on_is_the_end_of_the_update_and_a_restart_goes_on_from_it(tmp_path):
    task, rule = task_of(tmp_path, outer=OuterSettings(kind="heavy-ball")), AverageSettings()

    def learner() -> Learner:
        return Learner(task, peer="p0", position=0, peers=3, merge=rule.load()(rule))

    calm, before = learner(), learner()
    model = task.initial()
    for round in range(3):
        model = calm.train(model, round=round).model
    again = task.initial()
    for round in range(2):
        again = before.train(again, round=round).model
    assert set(before.state.export(0)) == {
        f"update.outer.{name}" for name in ("start", "momentum", "previous", "moved")
    }
    after = learner()
    after.state.restore(0, before.state.export(0))
    assert torch.equal(after.train(again, round=2).model, model)
    assert not torch.equal(learner().train(again, round=2).model, model)


# --- what is refused ---


def test_between_the_values_of_the_table_factors_are_between_them():
    for kind, table in FACTORS.items():
        for mu, values in table.items():
            for rate, value in zip(RATES, values, strict=False):
                assert factor(kind, rate=rate, momentum=mu) == pytest.approx(value)
    assert factor("heavy-ball", rate=0.4, momentum=0.4) == pytest.approx((0.78 + 0.74 + 0.78 + 0.80) / 4)
    assert factor("heavy-ball", rate=0.01, momentum=0.5) == pytest.approx(0.89)
    assert factor("heavy-ball", rate=0.1, momentum=0.99) > FACTOR_MAX


VALUES = {"outer.kind": "heavy-ball"}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"outer.momentum": 0.9},
            r"1\.04 times .* momentum = 0\.77 with this rate, or rate = 0\.29 with this momentum",
        ),
        ({"outer.momentum": 0.7, "outer.rate": 1.0}, r"0\.99 times"),
        ({"outer.momentum": 0.9, "outer.rate": 0.3}, r"0\.98 times"),
        ({"outer.kind": "nesterov", "outer.rate": 1.0}, r"1\.03 times"),
        ({"local.optimizer.kind": "quasi-global", "local.momentum": 0.9}, "multiply; valid: momentum = 0"),
        ({"outer.kind": "none", "outer.rate": 0.5}, "rate = 0.5 means nothing with kind = 'none'"),
        ({"outer.kind": "lerp", "outer.momentum": 0.5}, "momentum = 0.5 means nothing with kind = 'lerp'"),
        ({"outer.kind": "adam"}, "outer.kind"),
        (
            {"scenario.algorithm": "gossip-learning", "protocol.variant": "random-walk"},
            "the next update is of another model",
        ),
    ],
)
def test_steps_that_drive_models_apart_or_mean_nothing_are_refused(values, sentence):
    with pytest.raises(SettingError, match=sentence):
        load("quickstart", values=VALUES | values)


@pytest.mark.parametrize(
    "outer", [*KINDS, OuterSettings(kind="nesterov"), OuterSettings(kind="heavy-ball", momentum=0.7)]
)
def test_what_is_stable_between_pairs_is_accepted_and_peers_agree_on_it(outer):
    values = {f"outer.{key}": value for key, value in outer.model_dump(exclude_none=True).items()}
    told = load("quickstart", values=values)
    plain = load("quickstart")
    assert "outer" in told.agreement()
    assert "outer" not in plain.agreement()
    assert told.run_id() != plain.run_id()


def test_where_peers_seldom_train_twice_in_a_row_it_is_said():
    told = load("modest", values=VALUES)
    assert any("takes no outer step" in note for note in told.notes)
