"""System laws of MoDeST where some lie or keep silent: honest peers keep their pace, their order and their end."""

from __future__ import annotations

from functools import cache

import pytest

from gossip.protocols.modest.settings import ModestSettings
from scenarios.sections import NetworkSettings
from tests.laws import examples
from tests.simulation import modest_swarm
from tests.simulation.modest_liars import EARLY, KINDS, POISONER, WORTHLESS
from tests.simulation.modest_swarm import ModestWorld

ROUNDS = 80


def world_of(
    villains: dict[int, str], *, peers: int = 6, training_s: float = 1.0, seed: int = 0
) -> ModestWorld:
    world = ModestWorld(
        peers,
        ModestSettings(),
        rounds=ROUNDS,
        network=NetworkSettings(latency_ms=(2.0, 5.0)),
        training_s=lambda peer, round: training_s,
        update=lambda model, peer, round: 0.9 * model + 0.1 * (peer % 2),
        villains=villains,
        shortest_s=training_s,
        seed=seed,
    )
    world.start()
    return world


@cache
def clean_s(peers: int, training_s: float) -> float:
    """Return when the last round begins without any villain."""
    world = world_of({0: "nothing"}, peers=peers, training_s=training_s)
    world.run()
    return world.honesty.began_s[ROUNDS]


@pytest.mark.parametrize(
    ("kind", "villain", "training_s"),
    [*((kind, 1, 0.1) for kind in KINDS), ("idle", 4, 1.0), ("silent", 4, 1.0), ("lies", 4, 1.0)],
)
def test_one_of_six_that_lies_or_keeps_silent_costs_less_than_a_fifth_of_the_pace(kind, villain, training_s):
    world = world_of({villain: kind}, training_s=training_s)
    world.run(until_s=10 * clean_s(6, training_s))
    honest = [peer for peer in world.peers if peer.index != villain]
    assert all(peer.finished and peer.round == ROUNDS for peer in honest)
    assert world.honesty.began_s[ROUNDS] <= clean_s(6, training_s) / 0.8
    world.honesty.check_end()


@pytest.mark.parametrize("kind", WORTHLESS)
def test_work_that_is_of_no_use_does_not_pass_for_work(kind):
    world = world_of({4: kind})
    world.run(until_s=10 * clean_s(6, 1.0))
    honest = [peer for peer in world.peers if peer.index != 4]
    assert all(peer.finished and peer.round == ROUNDS for peer in honest)
    assert world.honesty.began_s[ROUNDS] <= clean_s(6, 1.0) / 0.8
    world.honesty.check_end()


@pytest.mark.parametrize("kinds", [("lies", "idle"), ("silent", "lies")])
def test_with_f_of_two_two_of_eight_may(kinds):
    world = ModestWorld(
        8,
        ModestSettings(liars=2),
        rounds=60,
        villains={2: kinds[0], 5: kinds[1]},
        update=lambda model, peer, round: 0.9 * model + 0.1 * (peer % 2),
    )
    world.start()
    world.run(until_s=600)
    assert all(peer.finished for peer in world.peers if peer.index not in (2, 5))
    world.honesty.check_end()


def poisoned(aggregators: int, *, silent: bool = False) -> list[float]:
    """Return the models that each average was, of honest peers among whom one begins its rounds with a false model."""
    world = ModestWorld(
        8,
        ModestSettings(aggregators=aggregators, liars=2 if silent else 1),
        rounds=40,
        villains={2: POISONER, **({5: "idle"} if silent else {})},
        update=lambda model, peer, round: 0.9 * model + 0.1 * (peer % 2),
    )
    world.start()
    world.run(until_s=600)
    assert all(peer.finished for peer in world.peers if peer.index not in world.villains)
    return [event.model for _, peer, event in world.completed if int(peer[1:]) not in world.villains]


def test_what_a_single_aggregator_begins_a_round_with_is_trusted_and_of_three_it_is_what_most_say():
    assert max(poisoned(1)) > 1
    assert max(poisoned(3)) <= 1
    assert max(poisoned(5, silent=True)) <= 1


@pytest.mark.parametrize(("peers", "liars"), [(6, {2}), (8, {2, 5})])
def test_an_order_that_comes_before_all_others_decides_nothing_however_long_they_take(peers, liars):
    world = ModestWorld(
        peers,
        ModestSettings(aggregators=2 * len(liars) + 1, liars=len(liars)),
        rounds=20,
        villains=dict.fromkeys(liars, EARLY),
        training_s=lambda peer, round: 10.0 if round in (7, 15, 19) else 1.0,
        update=lambda model, peer, round: 0.9 * model + 0.1 * (peer % 2),
    )
    world.start()
    world.run(until_s=2000)
    honest = {peer.peer for peer in world.peers if peer.index not in liars}
    assert all(world.by_name[peer].finished for peer in honest)
    averages = [event.model for _, peer, event in world.completed if peer in honest]
    assert max(averages) <= 1


@pytest.mark.parametrize("seeds", [range(start, start + 6) for start in range(0, examples(0.4), 6)], ids=str)
def test_whatever_else_goes_wrong_liars_change_no_model_and_all_finish(seeds):
    for seed in seeds:
        modest_swarm.run(seed, liars=True)
