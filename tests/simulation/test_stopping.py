"""Peers of `rounds` agree to stop: nobody alone, all in the same round or near it, and no f liars decide for others."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.protocols import Message, ModelMessage, Rounds, RoundsSettings
from gossip.protocols.rounds import Phase
from gossip.protocols.rounds.stopping import Stopping, WantsMessage
from gossip.protocols.stopping import StopRule, enough
from scenarios.virtual.events.faults import FaultPlan
from scenarios.virtual.events.peer import VirtualPeer
from scenarios.virtual.events.simulation import Simulation
from tests.laws import examples, tried
from tests.simulation.checkers import rounds_of
from tests.simulation.lone_peer import LonePeer
from tests.simulation.swarm import _heal, draw
from tests.simulation.watched import WatchedSimulation
from topologies import Topology

ROUNDS = 40
GRAPHS = ("ring", "full", "exponential", "star", "torus", "erdos-renyi", "one-peer-exponential")
STOP_LIES = ("early", "two-faced", "late", "never")


def rule_of(topology: Topology, liars: int) -> StopRule:
    return StopRule(run="r", better=operator.gt, target=1.0, liars=liars, hops=topology.diameter())


def simulation_of(
    topology: Topology, wants_at: Sequence[int], *, f: int, rounds: int = ROUNDS, **options: Any
) -> WatchedSimulation:
    """Peer i scores what it is to score from round wants_at[i] on."""
    return WatchedSimulation(
        topology,
        rounds=rounds,
        rule=rule_of(topology, f),
        scores=lambda peer, round: float(round >= wants_at[peer]),
        **options,
    )


def ends_of(simulation: WatchedSimulation, peers: Sequence[int] | None = None) -> list[int]:
    return [simulation.peers[i].round for i in (range(len(simulation.peers)) if peers is None else peers)]


def topologies(peers: st.SearchStrategy[int]) -> st.SearchStrategy[Topology]:
    def made(kind: str, peers: int, seed: int) -> Topology:
        return Topology("ring" if kind == "torus" and peers not in (9, 12) else kind, peers, seed=seed)

    return st.builds(made, st.sampled_from(GRAPHS), peers, st.integers(0, 99))


# --- whole runs ---


@given(topologies(st.integers(3, 12)), st.data(), st.integers(0, 3))
@tried(1)
def test_in_step_all_stop_in_the_same_round_soon_after_enough_want_to_and_not_before(topology, data, liars):
    peers = topology.peers
    wants_at = data.draw(st.lists(st.integers(1, ROUNDS + 20), min_size=peers, max_size=peers))
    simulation = simulation_of(topology, wants_at, f=liars)
    simulation.start()
    simulation.run_checked()
    enough_at = sorted(wants_at)[enough(peers, liars) - 1]
    assert ends_of(simulation) == [min(ROUNDS, enough_at + topology.diameter() + 1)] * peers
    why = "target" if enough_at + topology.diameter() + 1 < ROUNDS else "rounds"
    assert {peer.protocol.why_stopped() for peer in simulation.peers} == {why}


def _lie(
    simulation: WatchedSimulation, liar: VirtualPeer, how: str, rng: np.random.Generator, until_s: float
) -> None:
    """Let a liar, which passes nothing on, say of itself what it likes, when it likes, to whom it likes."""
    stopping = rounds_of(liar)._ending._stopping
    assert stopping is not None

    def want(since: int) -> tuple[str, int, str, bytes]:
        return liar.peer, since, "target", liar.sign(stopping._statement(liar.peer, since, "target"))

    def say(since: int, share: float) -> None:
        for name in liar.contacts:
            if rng.random() < share and liar.alive and not liar.paused and liar.is_up(name):
                message = WantsMessage(wants=(want(since),))
                simulation.checkers.tell("sent", liar, simulation.by_name[name], message)
                # Not by way of what it passes on.
                Simulation.transmit(simulation, liar, name, message, liar.links.get(name, 0))

    times = {"early": [0.01], "late": [float(rng.uniform(0, until_s))], "never": []}
    for at_s in times.get(how, rng.uniform(0, until_s, size=6).tolist()):
        since = 0 if how != "two-faced" else int(rng.integers(0, 2 * ROUNDS))
        simulation.schedule(at_s, say, since, 1.0 if how == "early" else 0.5)


def _passing_nothing_on(message: Message) -> Message | None:
    return None if isinstance(message, WantsMessage) else message


@pytest.mark.parametrize("seed", range(examples(2)))
def test_whatever_fails_and_whoever_lies_nobody_stops_before_most_honest_want_to_and_all_agree_in_the_end(
    seed,
):
    plan = draw(seed)
    rng = np.random.default_rng([seed, 0x570B])
    peers = plan.topology.peers
    rounds = max(plan.rounds, 6)
    f = int(rng.integers(0, 1 + max(0, (peers - 1) // 3)))
    liars = [int(i) for i in rng.choice(peers, size=f, replace=False)]
    honest = [i for i in range(peers) if i not in liars]
    high = int(rng.choice([2, rounds, 3 * rounds]))
    wants_at = [int(rng.integers(1, high + 1)) if i in honest else 10**9 for i in range(peers)]
    protocol = plan.protocol.model_copy(update={"gossip_steps": max(1, plan.protocol.gossip_steps)})
    simulation = simulation_of(
        plan.topology,
        wants_at,
        f=f,
        rounds=rounds,
        protocol=protocol,
        network=plan.network,
        training_s=lambda peer, round: plan.seconds_per_round,
        training_min_s=plan.seconds_per_round,
        faults=not plan.calm,
        detected_s=plan.detected_s,
        seed=seed,
        liars=dict.fromkeys(liars, _passing_nothing_on),
    )
    horizon_s = plan.heal_s or rounds * plan.seconds_per_round
    for liar in liars:
        _lie(simulation, simulation.peers[liar], str(rng.choice(STOP_LIES)), rng, horizon_s)
    FaultPlan(plan.faults, simulation, detected_s=plan.detected_s)
    if not plan.calm:
        simulation.returns += 1
        simulation.schedule(plan.heal_s, _heal, simulation)
    simulation.start()
    per_round_s = plan.seconds_per_round + protocol.gossip_steps * protocol.deadline_cap_s
    simulation.run_checked(until_s=plan.heal_s + 20 + (1 + rounds) * per_round_s)

    ends = ends_of(simulation, honest)
    assert all(simulation.peers[i].finished for i in honest)
    assert max(ends) <= rounds
    wanted = [i for i in honest if simulation.peers[i].peer in stopping_of(simulation, i)._known]
    if min(ends) < rounds:
        assert 2 * len(wanted) > len(honest)
        assert len(wanted) > 1 or peers == 1
        assert min(ends) > sorted(wants_at[i] for i in wanted)[len(honest) // 2] - 1
    # What is still under way arrives, too.
    simulation._over = False
    simulation.run_checked()
    if nx.is_connected(_contacts(plan.topology).subgraph(honest)):
        decisions = {stopping_of(simulation, i).decision for i in honest}
        assert len({decision and decision.last for decision in decisions}) == 1, decisions
        if plan.calm:
            away = nx.diameter(_contacts(plan.topology).subgraph(honest))
            assert max(ends) - min(ends) <= 2 * away + 1


def _contacts(topology: Topology) -> nx.Graph:
    graph = nx.empty_graph(topology.peers)
    graph.add_edges_from((i, j) for i in range(topology.peers) for j in topology.contacts(i))
    return graph


def stopping_of(simulation: WatchedSimulation, index: int) -> Stopping:
    stopping = rounds_of(simulation.peers[index])._ending._stopping
    assert stopping is not None
    return stopping


@pytest.mark.parametrize("at_s", [6.3, 9.7])
def test_power_comes_back_everywhere_and_all_still_stop_where_they_had_agreed_to(at_s):
    topology = Topology("ring", 7)
    simulation = simulation_of(topology, [5] * 7, f=1, faults=True)
    simulation.returns += 1

    def cut() -> None:
        for peer in simulation.peers:
            simulation.crash(peer)
        for peer in simulation.peers:
            simulation.restart(peer)
        simulation.returns -= 1

    simulation.schedule(at_s, cut)
    simulation.start()
    simulation.run_checked()
    # Nobody scores anything again that it had scored before.
    assert ends_of(simulation) == [5 + topology.diameter() + 1] * 7


def test_who_was_away_while_the_others_agreed_and_stopped_stops_where_they_did():
    topology = Topology("exponential", 8)
    simulation = simulation_of(topology, [4] * 8, f=1, faults=True)
    simulation.returns += 1

    def back() -> None:
        simulation.restart(simulation.peers[3])
        simulation.returns -= 1

    simulation.schedule(2.5, simulation.crash, simulation.peers[3])
    simulation.schedule(60.0, back)
    simulation.start()
    simulation.run_checked()
    assert set(ends_of(simulation)) == {4 + topology.diameter() + 1}


# --- one peer and what it is told ---


class Signing(LonePeer):
    """A lone peer with equal weights, that can sign: whose name stands behind the statement has signed it."""

    def audience(self, round: int) -> Sequence[str]:
        return tuple(self.neighbours(round))

    def neighbours(self, round: int) -> Mapping[str, float]:
        return {name: 1 / len(self.peers) for name in self.contacts}

    def sign(self, statement: bytes) -> bytes:
        return signature(self.peer, statement)

    def verify(self, peer: str, statement: bytes, signed: bytes) -> bool:
        return signed == signature(peer, statement)


def signature(peer: str, statement: bytes) -> bytes:
    return peer.encode() + b" " + statement


def lone(peers: int = 5, liars: int = 1) -> tuple[Rounds, Signing]:
    protocol = Rounds(RoundsSettings(), rounds=ROUNDS, model=0.0)
    protocol.stop_early(StopRule(run="r", better=operator.gt, target=1.0, liars=liars, hops=1), {})
    ctx = Signing("p0", [f"p{i}" for i in range(peers)])
    protocol.on_start(ctx)
    return protocol, ctx


def want(peer: str, since: int, *, by: str | None = None, run: str = "r") -> tuple[str, int, str, bytes]:
    stopping = Stopping(StopRule(run=run, better=operator.gt), {})
    return peer, since, "target", signature(by or peer, stopping._statement(peer, since, "target"))


def hear(protocol: Rounds, ctx: Signing, sender: str, *wants: tuple[str, int, str, bytes]) -> None:
    protocol.on_message(ctx, sender, WantsMessage(wants=wants))


def last_of(protocol: Rounds) -> int | None:
    assert protocol._ending._stopping is not None
    decision = protocol._ending._stopping.decision
    return None if decision is None else decision.last


@pytest.mark.parametrize(
    "lie",
    [
        want("p2", 3, by="p1"),
        want("p2", 3, run="another"),
        ("p2", 4, "target", want("p2", 3)[3]),
        want("nobody", 3),
        want("p2", -1),
        ("p2", 3, "boredom", signature("p2", b"")),
    ],
    ids=["forged", "of another run", "changed", "by a stranger", "before the start", "for no reason"],
)
def test_what_was_not_signed_by_whom_it_names_for_this_run_counts_for_nothing_and_goes_nowhere(lie):
    protocol, ctx = lone()
    hear(protocol, ctx, "p1", lie, want("p3", 2), want("p4", 2), want("p1", 2))
    assert ctx.rejected == ["not-signed"]
    assert ctx.take(WantsMessage) == []
    assert last_of(protocol) is None
    hear(protocol, ctx, "p1", want("p3", 2), want("p4", 2), want("p1", 2), want("p2", 2))
    assert last_of(protocol) == 2 + 1 + 1


def test_news_is_passed_on_once_to_all_who_do_not_know_it():
    protocol, ctx = lone()
    hear(protocol, ctx, "p1", want("p3", 2))
    assert {peer for peer, _ in ctx.take(WantsMessage)} == {"p2", "p3", "p4"}
    hear(protocol, ctx, "p2", want("p3", 2))
    assert ctx.take(WantsMessage) == []
    protocol.on_peer(ctx, "p1", True)
    assert [(peer, message.wants) for peer, message in ctx.take(WantsMessage)] == [("p1", (want("p3", 2),))]


def test_who_signs_two_rounds_counts_as_of_the_first_round_of_all_and_both_are_passed_on():
    ends = []
    for order in ([7, 30], [30, 7], [7, 30, 12]):
        protocol, ctx = lone()
        hear(protocol, ctx, "p2", want("p2", 9), want("p3", 9), want("p4", 9))
        for since in order:
            hear(protocol, ctx, "p1", want("p1", since))
        told = {each for peer, message in ctx.take(WantsMessage) if peer == "p4" for each in message.wants}
        assert {want("p1", since) for since in order[:2]} <= told
        ends.append(last_of(protocol))
    assert ends == [9 + 2] * 3


def test_what_came_too_late_to_decide_still_shows_who_contradicts_itself():
    protocol, ctx = lone(7, liars=2)
    hear(protocol, ctx, "p3", *(want(f"p{i}", 4) for i in range(2, 6)), want("p6", 30))
    assert last_of(protocol) == 30 + 2
    ctx.take(WantsMessage)
    hear(protocol, ctx, "p3", want("p1", 50))
    assert ctx.take(WantsMessage) == [], "of no use to anybody"
    hear(protocol, ctx, "p3", want("p1", 29))
    assert last_of(protocol) == 4 + 2
    told = dict(ctx.take(WantsMessage))
    assert set(told) == {"p1", "p2", "p4", "p5", "p6"}
    assert set(told["p2"].wants) == {want("p1", 29), want("p1", 50)}


def test_the_round_that_has_begun_is_always_done():
    protocol, ctx = lone()
    for _ in range(6):
        ctx.end_training(protocol)
        ctx.advance(protocol, 100.0)
    assert protocol.phase is Phase.TRAINING
    done = protocol.tag[0]
    hear(protocol, ctx, "p1", *(want(f"p{i}", 1) for i in range(1, 5)))
    assert ctx.finished is None
    ctx.end_training(protocol)
    ctx.advance(protocol, 100.0)
    assert ctx.finished is not None
    assert ctx.completed[-1].round == done + 1
    assert ctx.completed[-1].last
    assert not any(event.last for event in ctx.completed[:-1])


def test_who_has_stopped_answers_those_who_go_on_for_some_rounds():
    protocol, ctx = lone()
    hear(protocol, ctx, "p1", *(want(f"p{i}", 0) for i in range(1, 5)))
    while ctx.finished is None:
        ctx.end_training(protocol)
        ctx.advance(protocol, 100.0)
    ctx.take(ModelMessage)
    for round in (2, 3):
        protocol.on_message(ctx, "p1", ModelMessage(round=round, step=0, model=9.0))
        assert [(peer, told.round, told.model) for peer, told in ctx.take(ModelMessage)] == [
            ("p1", round, ctx.finished)
        ]


def test_the_final_model_of_a_neighbour_stands_in_for_its_model_of_the_last_round():
    protocol, ctx = lone()
    hear(protocol, ctx, "p1", *(want(f"p{i}", 0) for i in range(1, 5)))
    ctx.end_training(protocol)
    ctx.advance(protocol, 100.0)
    assert protocol.tag == (1, 0)
    protocol.on_message(ctx, "p1", ModelMessage(round=2, step=0, model=9.0))
    ctx.end_training(protocol)
    ctx.advance(protocol, 100.0)
    assert [(each.sender, each.model) for each in ctx.merged[-1][2]] == [("p1", 9.0)]
    assert ctx.finished is not None


def test_strangers_to_the_graph_are_not_heard():
    protocol, ctx = lone()
    ctx.contacts = ("p1", "p2", "p3")
    hear(protocol, ctx, "p4", want("p4", 2))
    assert ctx.rejected == ["not-a-neighbour"]


def test_where_stop_asks_for_rounds_only_nothing_is_said_and_wants_are_not_heard():
    protocol = Rounds(RoundsSettings(), rounds=ROUNDS, model=0.0)
    ctx = Signing("p0", [f"p{i}" for i in range(4)])
    protocol.on_start(ctx)
    protocol.on_score(ctx, 1, 9.0)
    hear(protocol, ctx, "p1", *(want(f"p{i}", 0) for i in range(1, 4)))
    assert ctx.rejected == ["unexpected"]
    assert ctx.take(WantsMessage) == []
    assert set(protocol.snapshot()) == {"round"}


def test_a_checkpoint_of_other_settings_decides_nothing():
    protocol, ctx = lone()
    hear(protocol, ctx, "p1", *(want(f"p{i}", 2) for i in range(1, 5)))
    assert last_of(protocol) == 4
    state = protocol.snapshot()
    for run, expected in (("r", 4), ("another", None)):
        again = Rounds.resume(RoundsSettings(), rounds=ROUNDS, model=0.0, state=state)
        again.stop_early(StopRule(run=run, better=operator.gt, target=1.0, hops=1), state)
        assert last_of(again) == expected
