"""Laws of weights for those that are seldom there, late, or old."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.config import load_task
from gossip.config.graphs import build_topology
from gossip.errors import SettingError
from gossip.protocols.base import Contribution
from gossip.protocols.participation import FORGET, Participation
from gossip.protocols.push.rates import Rates, staleness
from gossip.protocols.rounds import Rounds
from gossip.protocols.settings import RoundsSettings
from scenarios import api
from tests.laws import tried

ROW = {"a": 0.1, "b": 0.2, "c": 0.05}

NETWORK = """
[scenario]
name = "seldom"
peers = 4
algorithm = "d-psgd"
[data]
train_max = 80
test_max = 20
[topology]
kind = "full"
[compute]
seconds_per_sample = 0.01
[protocol]
weighing = "participation"
[stop]
rounds = 8
"""


def contributions(present: set[str]) -> tuple[float, list[Contribution]]:
    received = [Contribution(peer, 0.0, ROW[peer]) for peer in sorted(present)]
    return 1 - sum(each.weight for each in received), received


presences = st.lists(st.sets(st.sampled_from(sorted(ROW))), min_size=1, max_size=60)


@tried(1)
@given(presences, st.integers(2, 20), st.floats(0, 0.9))
def test_rows_sum_to_one_and_the_own_model_keeps_its_share(rounds, most, self_min):
    weigher = Participation(interval_max=most, self_min=self_min)
    for present in rounds:
        before, received = contributions(present)
        own, weighed = weigher.weighed(ROW, before, received)
        assert [each.sender for each in weighed] == [each.sender for each in received]
        assert math.isclose(own + sum(each.weight for each in weighed), 1, abs_tol=1e-9)
        assert own >= min(self_min, before) - 1e-9
        assert all(0 <= each.weight <= most * ROW[each.sender] + 1e-9 for each in weighed)


@tried(1)
@given(st.integers(1, 40), st.integers(2, 20))
def test_who_is_always_there_weighs_what_the_row_says_to_the_bit(rounds, most):
    weigher = Participation(interval_max=most, self_min=0.9)
    for _ in range(rounds):
        own, received = contributions(set(ROW))
        assert weigher.weighed(ROW, own, received) == (own, received)


def test_over_time_each_counts_as_its_entry_says_however_seldom_it_comes():
    draws, chances, rounds = random.Random(1), {"a": 0.1, "b": 0.3, "c": 1.0}, 4000
    weigher, sums = Participation(interval_max=50, self_min=0.0), dict.fromkeys(ROW, 0.0)
    small = {peer: weight / 50 for peer, weight in ROW.items()}  # so that no sum reaches the bound
    for _ in range(rounds):
        received = [
            Contribution(peer, 0.0, small[peer]) for peer in sorted(ROW) if draws.random() < chances[peer]
        ]
        for each in weigher.weighed(small, 1 - sum(each.weight for each in received), received)[1]:
            sums[each.sender] += each.weight
    for peer, weight in small.items():
        assert sums[peer] / rounds == pytest.approx(weight, rel=0.1)


@tried(1)
@given(presences, st.integers(0, 60))
def test_a_restart_goes_on_with_what_was_known(rounds, at):
    settings, before = RoundsSettings(weighing="participation", interval_max=5), rounds[:at]
    unbroken, broken = (Participation(interval_max=5, self_min=settings.self_min) for _ in range(2))
    for present in before:
        unbroken.weighed(ROW, *contributions(present))
        broken.weighed(ROW, *contributions(present))
    peer = Rounds.resume(settings, rounds=9, model=0.0, state={"round": 3, "participation": broken.saved()})
    assert peer.snapshot() == {"round": 3, "participation": unbroken.saved()}
    again = peer._inbox._participation
    for present in [*rounds[at:], set(ROW)]:
        assert again.weighed(ROW, *contributions(present)) == unbroken.weighed(ROW, *contributions(present))


def test_who_stays_away_for_long_begins_anew():
    weigher = Participation(interval_max=5, self_min=0.0)
    for _ in range(FORGET * 5 - 1):
        weigher.weighed(ROW, *contributions({"a", "b"}))
    own, received = contributions({"c"})
    assert weigher.weighed(ROW, own, received)[1][0].weight == pytest.approx(5 * ROW["c"])
    for _ in range(FORGET * 5):
        weigher.weighed(ROW, *contributions({"a", "b"}))
    assert weigher.weighed(ROW, own, received) == (own, received)


@tried(1)
@given(st.integers(1, 30), st.floats(0.1, 10), st.integers(2, 20))
def test_a_sender_that_is_so_many_times_slower_weighs_as_many_times_more(slower, period_s, most):
    rates = Rates(interval_max=most)
    assert rates.factor("x", window_s=period_s) == 1.0
    for push in range(4):
        rates.came("x", push * slower * period_s)
        rates.came("y", push * period_s)
    assert rates.factor("x", window_s=period_s) == min(slower, most)
    assert rates.factor("y", window_s=period_s) == 1.0


@given(st.integers(0, 10_000))
def test_old_models_weigh_less(behind):
    assert staleness(0) == 1
    assert 0 < staleness(behind + 1) < staleness(behind)


def test_where_nobody_is_missing_a_run_is_that_of_plain_rows_and_else_another(tmp_path: Path):
    path = tmp_path / "seldom.toml"
    path.write_text(NETWORK)
    gone = 'faults.list=[{at=0.2,do="crash",peers=[3]},{at=0.5,do="restart",peers=[3]}]'

    def digest(*overrides: str) -> str:
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        return str(api.run(path, out=out, overrides=list(overrides), report=False).summary["model_digest"])

    assert digest() == digest("protocol.weighing=row")
    assert digest(gone) != digest(gone, "protocol.weighing=row")


@pytest.mark.parametrize("weighting", ["rate", "staleness"])
def test_gossip_learning_weighs_by_rate_and_by_staleness(tmp_path: Path, weighting: str):
    path = tmp_path / "push.toml"
    path.write_text(
        NETWORK.replace('"d-psgd"', '"gossip-learning"').replace(
            'weighing = "participation"', 'period_s = 0.1\nmemory = 3\nmerge_when = "received"'
        )
        + '[faults]\nlist = [{ at = 0.2, do = "crash", peers = [3] }, { at = 0.5, do = "restart", peers = [3] }]\n'
    )
    summary = api.run(
        path, out=tmp_path / "run", overrides=[f"protocol.weighting={weighting}"], report=False
    ).summary
    assert summary["rounds"] == 8
    assert sum(summary["faults"]["rejected_messages"].values()) < summary["messages"]["by_type"]["push"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["protocol.weighing=participation", "merge.kind=median", "merge.f=1"], "weighing.*median"),
        (["protocol.interval_max=20"], "interval_max and self_min belong to weighing"),
        (["protocol.weighing=participation", "protocol.gossip_steps=0"], "hears nobody"),
        (["protocol.weighing=similar"], "weighing"),
    ],
)
def test_what_means_nothing_is_refused_with_a_sentence(overrides, said):
    def load() -> None:
        task = load_task(arguments={"algorithm": "d-psgd"}, overrides=overrides)
        build_topology(task, names=[f"p{k}" for k in range(6)])

    with pytest.raises(SettingError, match=said):
        load()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["protocol.weighting=rate", "protocol.variant=update-merge"], "rate.*update-merge"),
        (["protocol.interval_max=20"], "interval_max = 20 belongs to weighting"),
        (
            [
                "protocol.weighting=staleness",
                "protocol.memory=10",
                "merge.kind=nnm+trimmed-mean",
                "merge.f=1",
            ],
            "staleness.*trimmed-mean",
        ),
    ],
)
def test_the_same_of_gossip_learning(overrides, said):
    def load() -> None:
        task = load_task(arguments={"algorithm": "gossip-learning"}, overrides=overrides)
        build_topology(task, names=[f"p{k}" for k in range(6)])

    with pytest.raises(SettingError, match=said):
        load()
