"""System laws of MoDeST: without faults it is FedAvg; with them it is safe, and goes on."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch

from gossip.learner import Learner
from gossip.merging.settings import AverageSettings
from gossip.protocols.base import Contribution, GossipStep
from gossip.protocols.modest.fedavg import FedAvg
from gossip.protocols.modest.protocol import Modest
from gossip.protocols.modest.sampling import Sampling, epoch_rounds, order, turn
from gossip.protocols.modest.settings import ModestSettings
from scenarios.processes.averages import load_task
from scenarios.scenario import load
from scenarios.sections import Fault, FaultSettings, NetworkSettings
from scenarios.virtual.engine import VirtualRun
from scenarios.virtual.events.faults import FaultPlan
from scenarios.virtual.events.peer import VirtualPeer
from tests.laws import examples
from tests.simulation import modest_swarm
from tests.simulation.modest_swarm import ModestWorld

WIDE = NetworkSettings(latency_ms=(20.0, 150.0))


def settings(**options: object) -> ModestSettings:
    return ModestSettings.model_validate({"kind": "modest", **options})


def update(model: float, peer: int, round: int) -> float:
    return 0.9 * model + 0.01 * peer * (1 + round % 3)


def fedavg(peers: int, sample_size: int, rounds: int, sampler: str = "uniform") -> dict[int, float]:
    """The oracle: plain FedAvg with the same samples."""
    names = [f"p{index:03d}" for index in range(peers)]
    model, found = 1.0, {}
    for round in range(1, rounds + 1):
        first = turn(round, names, sample_size=sample_size) if sampler == "permutation" else ()
        sample = order(round, names, first=first)[:sample_size]
        model = float(np.mean([update(model, names.index(peer), round - 1) for peer in sample]))
        found[round] = model
    return found


@pytest.mark.parametrize("sampler", ["uniform", "permutation"])
@pytest.mark.parametrize("hardening", ["all", "none"])
@pytest.mark.parametrize(("peers", "sample_size"), [(30, 6), (5, 5), (12, 1), (13, 4)])
def test_without_faults_the_averages_are_fedavgs(peers, sample_size, hardening, sampler):
    world = ModestWorld(
        peers,
        settings(sample_size=sample_size, hardening=hardening, activity_window=1000, sampler=sampler),
        rounds=20,
        network=WIDE,
        update=update,
    )
    world.start()
    world.run()
    wanted = fedavg(peers, sample_size, 20, sampler)
    assert world.first_models() == pytest.approx(wanted, abs=1e-9)
    assert all(peer.finished and peer.checkpoint[1] == pytest.approx(wanted[20]) for peer in world.peers)
    # S2: nobody trains twice or in vain.
    trained = Counter(round for round, _ in world.learning.trainings)
    assert trained == dict.fromkeys(range(20), sample_size)


@pytest.mark.parametrize(
    "local", [[], ["local.momentum=0.9", "local.keep_momentum=true"]], ids=["plain", "momentum-kept"]
)
def test_without_faults_the_learned_models_are_fedavgs(local):
    """The same with a real model and data: one learner per peer, in a plain loop."""
    scenario = load(
        "modest",
        overrides=[
            "scenario.peers=12",
            "protocol.sample_size=4",
            "stop.rounds=4",
            "model.hidden=[8]",
            *local,
        ],
    )
    task = load_task(scenario)
    run = VirtualRun(scenario, task)
    run.simulation.start()
    run.simulation.run()
    learners = {
        name: Learner(
            task, peer=name, position=place, peers=12, merge=AverageSettings().load()(AverageSettings())
        )
        for place, name in enumerate(scenario.peer_names)
    }
    model = task.initial()
    for round in range(4):
        sample = order(round + 1, scenario.peer_names)[:4]
        trained = {name: learners[name].train(model, round=round).model for name in sample}
        received = [Contribution(name, trained[name], 0.25) for name in sorted(sample)]
        model = learners[sample[0]].merge(model, 0.0, received, at=GossipStep(round))
    for peer in run.simulation.peers:
        assert peer.checkpoint is not None
        difference = run.learning.vector(peer.checkpoint[1]) - model
        assert float(torch.abs(difference).max()) < 1e-6


@pytest.mark.parametrize("aggregators", [1, 2, 3])
def test_a_round_sends_twice_a_times_s_models_less_those_to_oneself(aggregators):
    rounds = 30
    world = ModestWorld(
        60,
        settings(sample_size=10, aggregators=aggregators, hardening="none", activity_window=1000),
        rounds=rounds,
        network=WIDE,
    )
    world.start()
    world.run()
    formula = 2 * aggregators * 10 - 1.1 * aggregators
    assert world.models_sent / rounds == pytest.approx(formula, rel=0.05)


def test_fedavg_draws_the_same_samples_and_averages_at_one_peer():
    wanted = fedavg(20, 5, 10)
    world = ModestWorld(
        20,
        settings(sample_size=5, activity_window=1000),
        rounds=10,
        network=WIDE,
        update=update,
        make=FedAvg,
    )
    world.start()
    world.run()
    assert world.first_models() == pytest.approx(wanted, abs=1e-9)
    assert {peer for _, peer, event in world.completed if event.round < 10} == {"p000"}


@pytest.mark.parametrize("seeds", [range(start, start + 15) for start in range(0, examples(1), 15)], ids=str)
def test_whatever_goes_wrong_nothing_false_happens_and_when_it_ends_all_finish(seeds):
    for seed in seeds:
        modest_swarm.run(seed)


@pytest.mark.parametrize("seed", [183])
def test_a_lost_connection_may_end_the_run_and_with_it_other_searches(seed):
    modest_swarm.run(seed)


def test_equal_seeds_give_equal_runs():
    first, second = (modest_swarm.run(3) for _ in range(2))
    assert first.log.hexdigest() == second.log.hexdigest()
    assert modest_swarm.run(4).log.hexdigest() != first.log.hexdigest()


def crashed_at_once(hardening: str, *, how: str, seed: int) -> ModestWorld:
    world = ModestWorld(
        50,
        settings(
            sample_size=5,
            aggregators=2,
            success_fraction=0.8,
            ping_timeout_s=2.0,
            activity_window=20,
            hardening=hardening,
        ),
        rounds=60,
        network=WIDE,
        training_s=lambda peer, round: 3.0 + peer % 3,
        seed=seed,
    )
    fault = Fault(at=60.0, do=how, peers=tuple(range(10, 50)))  # type: ignore[arg-type]
    FaultPlan(FaultSettings(list=(fault,)), world, detected_s=10.0)
    world.start()
    world.run(until_s=900)
    return world


@pytest.mark.parametrize("how", ["crash", "pause"])
def test_when_four_fifths_vanish_at_once_the_bare_protocol_stops_and_the_hardened_goes_on(how):
    bare = crashed_at_once("none", how=how, seed=1)
    assert max(event.round for *_, event in bare.completed) < 60
    assert bare.completed[-1][0] < 120
    hardened = crashed_at_once("all", how=how, seed=1)
    times = [time_s for time_s, _, event in hardened.completed if event.round < 60]
    assert max(event.round for *_, event in hardened.completed) == 60
    assert np.diff(times).max() < 90
    survivors = [hardened.protocol(index) for index in range(10)]
    assert all(protocol.last_participation > 30 for protocol in survivors)


def shrunk(hardening: object) -> list[int]:
    world = ModestWorld(
        40,
        settings(sample_size=4, activity_window=20, hardening=hardening),
        rounds=250,
        network=WIDE,
        training_s=lambda peer, round: 3.0,
    )
    world.start()
    world.run()
    return [index for index in range(40) if world.protocol(index).last_participation > 150]


def test_without_signs_of_life_peers_are_forgotten_silently_and_with_them_none_is():
    assert len(shrunk("none")) < 24
    assert len(shrunk(["H5"])) == 40


def test_everybody_is_drawn_again_and_again():
    """S6: within (n/s)·ln n + slack rounds each peer has trained."""
    world = ModestWorld(
        40, settings(sample_size=4), rounds=150, network=WIDE, training_s=lambda peer, round: 3.0
    )
    world.start()
    world.run()
    bound = 40 / 4 * math.log(40) + 60
    for index in range(40):
        rounds = [-1, *(round for round, peer in world.learning.trainings if peer == index), 150]
        assert np.diff(rounds).max() <= bound


def test_two_halves_that_were_apart_go_on_with_the_higher_round():
    world = ModestWorld(
        30,
        settings(sample_size=5, success_fraction=0.8, ping_timeout_s=2.0, stall_s=20.0),
        rounds=80,
        network=WIDE,
        training_s=lambda peer, round: 2.0,
    )
    faults = (Fault(at=20.0, do="partition", peers=tuple(range(12))), Fault(at=120.0, do="heal"))
    FaultPlan(FaultSettings(list=faults), world, detected_s=5.0)
    world.start()
    world.run(until_s=110.0)
    before = max(world.protocol(index).round for index in range(30))
    world.run(until_s=180.0)
    rounds = [world.protocol(index).round for index in range(30)]
    assert max(rounds) > before
    world.run(until_s=1500.0)
    assert all(peer.finished for peer in world.peers)


@pytest.mark.parametrize("seed", range(2))
def test_with_turns_ten_that_join_are_all_drawn_within_two_epochs_and_no_round_is_lost(seed):
    """E5; for a few rounds at the beginning only some have heard of a joiner."""
    world = ModestWorld(
        40,
        settings(sample_size=4, success_fraction=0.9, activity_window=30, sampler="permutation"),
        rounds=90,
        network=WIDE,
        training_s=lambda peer, round: 3.0,
        seed=seed,
    )
    faults = tuple(Fault(at=60.0 + 10 * i, do="join", peers=(30 + i,)) for i in range(10))
    FaultPlan(FaultSettings(list=faults), world, detected_s=10.0)
    world.start()
    world.run()
    assert sorted(world.first_models()) == list(range(1, 91))
    for i in range(10):
        came = next(event.round for time_s, _, event in world.completed if time_s > 60.0 + 10 * i)
        # One whose place was in the very first sample trains that in vain before it hears that it is late.
        trained = [number for number, peer in world.learning.trainings if peer == 30 + i and number]
        assert came - 1 <= min(trained) <= came + 2 * epoch_rounds(40, 4) + 5


def test_those_who_left_are_not_asked_any_more_and_take_part_again_when_they_are_back():
    """E6: leaving is heard of everywhere; who comes back has an old view and is known again."""
    away = tuple(range(18, 24))
    world = ModestWorld(
        24,
        # Without H6, which asks nobody that there is no connection to anyway.
        settings(
            sample_size=5,
            success_fraction=0.8,
            activity_window=20,
            hardening=["H1", "H2", "H3", "H4", "H5", "H7"],
        ),
        rounds=150,
        network=WIDE,
        training_s=lambda peer, round: 3.0,
    )
    faults = (Fault(at=50.0, do="leave", peers=away), Fault(at=250.0, do="restart", peers=away))
    FaultPlan(FaultSettings(list=faults), world, detected_s=10.0)
    asked: list[tuple[float, int]] = []
    ask = Sampling._ping

    def noted(self: Sampling, ctx: VirtualPeer, peer: str, round: int) -> None:
        asked.append((ctx.now(), int(peer[1:])))
        ask(self, ctx, peer, round)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sampling, "_ping", noted)
        world.start()
        world.run()
    assert {index for time_s, index in asked if time_s < 50.0} & set(away)
    assert not {index for time_s, index in asked if 80.0 < time_s < 250.0} & set(away)
    back = next(event.round for time_s, _, event in world.completed if time_s > 250.0)
    assert all(world.protocol(index).first_participation > back for index in away)
    for index in range(24):
        protocol = world.protocol(index)
        if protocol.last_participation > protocol.round - 10:
            assert not any(protocol._core.view[f"p{other:03d}"][2] for other in away)


def test_when_all_are_killed_and_come_back_they_go_on_as_if_nothing_had_been():
    world = ModestWorld(
        24,
        settings(sample_size=8, success_fraction=0.8, ping_timeout_s=2.0, activity_window=20, stall_s=20.0),
        rounds=120,
        network=WIDE,
        training_s=lambda peer, round: 3.0 + peer % 3,
    )
    faults = (Fault(at=400.0, do="crash", peers=tuple(range(24))), Fault(at=420.0, do="restart"))
    FaultPlan(FaultSettings(list=faults), world, detected_s=10.0)
    world.start()
    world.run()
    before = max(event.round for time_s, _, event in world.completed if time_s < 400.0)
    later = [(time_s, event) for time_s, _, event in world.completed if time_s > 400.0 and event.round < 120]
    assert before > 40
    assert min(event.round for _, event in later) >= before - 1
    # Who was active is in the checkpoints. Without it each would know of itself alone, and average alone.
    assert min(event.heard for _, event in later) >= 6
    assert later[0][0] < 420.0 + 1.25 * 20 + 20
    assert all(peer.finished for peer in world.peers)


@pytest.mark.parametrize("seed", range(6))
def test_two_that_are_left_of_thirty_go_on(seed):
    """S5: one that holds a recent model and one more are enough, and rounds follow each other."""
    world = ModestWorld(
        30,
        settings(
            sample_size=8, ping_timeout_s=2.0, stall_s=20.0, send_again_s=10.0, aggregate_timeout_s=10.0
        ),
        rounds=60,
        network=WIDE,
        training_s=lambda peer, round: 3.0,
        seed=seed,
    )
    gone = Fault(at=60.0 + seed, do="pause", peers=tuple(range(2, 30)))
    FaultPlan(FaultSettings(list=(gone,)), world, detected_s=10.0)
    world.start()
    world.run(until_s=1500)
    times = [time_s for time_s, _, event in world.completed if event.round < 60]
    assert world.protocol(0).round >= 60 or world.protocol(1).round >= 60
    assert np.diff([60.0, *(time_s for time_s in times if time_s > 60.0)]).max() < 4 * 20


def test_a_peer_that_left_is_not_asked_once_it_is_known():
    world = ModestWorld(
        40,
        settings(sample_size=8, success_fraction=0.8),
        rounds=60,
        network=WIDE,
        training_s=lambda peer, round: 3.0,
    )
    FaultPlan(FaultSettings(list=(Fault(at=50.0, do="leave", peers=(7, 8, 9)),)), world, detected_s=10.0)
    world.start()
    world.run(until_s=120.0)
    views = [world.protocol(index)._core.view for index in range(40) if index not in (7, 8, 9)]
    recent = [
        world.protocol(index)._core.view
        for index in range(40)
        if index not in (7, 8, 9)
        and world.protocol(index).last_participation > world.protocol(index).round - 4
    ]
    assert recent
    assert len(views) == 37
    for view in recent:
        assert all(view[f"p00{index}"][2] for index in (7, 8, 9))


def test_models_are_opaque_to_it_and_contacts_cost_no_list_per_peer():
    world = ModestWorld(50, settings(), rounds=1)
    assert isinstance(world.protocol(0), Modest)
    contacts = world.peers[3].contacts
    assert list(contacts) == [name for name in world.peers[0].peers if name != "p003"]
    assert len(contacts) == 49
    assert contacts[3] == "p004"
    assert contacts[-1] == "p049"
    assert "p003" not in contacts
