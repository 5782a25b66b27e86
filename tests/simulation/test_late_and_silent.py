"""The pace of honest peers beside neighbours that are silent, late, or come and go, on purpose."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from gossip.protocols import ModelMessage, RoundsSettings
from gossip.protocols.rounds.patience import OPENING_FLOORS
from tests.simulation.test_claims import peer_among, tell
from tests.simulation.test_rounds import world_of
from tests.simulation.world import World

ROUNDS = 200
ROUND_S = 1.01
RECONNECTS_S = 5.0
FLOOR_S = RoundsSettings().deadline_floor_s
LATE_S = (0.4, 1.2, 4.0, 30.0)
"""Less than a round, more than one, more than is ever paid for, more than is noticed."""


def silence(world: World, name: str) -> None:
    world.says[name] = lambda receiver, message: ()


def reconnecting(world: World, name: str) -> None:
    silence(world, name)
    for k in range(int(2 * ROUNDS * ROUND_S / RECONNECTS_S)):
        world.at(k * RECONNECTS_S + 0.7, lambda: world.reconnect(name, after_s=0.4))


def late(world: World, name: str, late_s: float) -> None:
    world.late_s[name] = late_s


def world_with(graph: nx.Graph, **bad: str) -> World:
    world = world_of(graph, np.arange(float(len(graph))), rounds=ROUNDS)
    if "silent" in bad:
        silence(world, bad["silent"])
    if "reconnecting" in bad:
        reconnecting(world, bad["reconnecting"])
    return world


def pace(world: World, bad: set[str]) -> float:
    """Return the slowest honest peer's rounds in a second, as a share of what they are without faults."""
    world.start()
    world.run()
    ends = [peer.finished for name, peer in world.peers.items() if name not in bad]
    assert all(end is not None for end in ends)
    return ROUNDS * ROUND_S / max(ends)


GRAPHS = {
    "ring": nx.cycle_graph(9),
    "regular": nx.random_regular_graph(4, 12, seed=2),
    "full": nx.complete_graph(7),
}


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("kind", ["silent", "reconnecting"])
def test_one_that_never_delivers_costs_one_deadline_in_all(graph, kind):
    world = world_with(GRAPHS[graph], **{kind: "p000"})
    assert pace(world, {"p000"}) > ROUNDS * ROUND_S / (ROUNDS * ROUND_S + 2 * FLOOR_S)


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("late_s", LATE_S)
def test_one_that_is_late_by_a_fixed_time_leaves_the_others_four_fifths_of_their_pace(graph, late_s):
    world = world_with(GRAPHS[graph])
    late(world, "p000", late_s)
    assert pace(world, {"p000"}) >= 0.8


@pytest.mark.parametrize("late_s", [0.8, 0.9, 1.0])
def test_one_late_by_most_of_a_round_does_not_hold_back_two_that_are_behind_their_other_neighbour(late_s):
    # Both fall behind in the first steps, and what the other neighbour sent for the present one is not kept any more.
    world = world_of(GRAPHS["ring"], np.arange(9.0), rounds=ROUNDS, gossip_steps=4)
    late(world, "p000", late_s)
    assert pace(world, {"p000"}) >= 0.8


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("late_s", LATE_S)
def test_all_three_together_leave_the_others_four_fifths_of_their_pace(graph, late_s):
    # On the ring every honest peer has one of them at most beside it.
    bad = {"silent": "p000", "reconnecting": "p003"}
    world = world_with(GRAPHS[graph], **bad)
    late(world, "p006", late_s)
    assert pace(world, {*bad.values(), "p006"}) >= 0.8


@pytest.mark.parametrize("neighbours", [1, 2, 3])
def test_coming_back_ends_no_suspicion_and_begins_no_wait_but_a_model_does(neighbours):
    ctx, protocol = peer_among(neighbours)
    bad = ctx.contacts[-1]
    ctx.end_training(protocol)
    assert bad in protocol.waiting_for
    ctx.down.add(bad)
    protocol.on_peer(ctx, bad, False)
    ctx.down.clear()
    protocol.on_peer(ctx, bad, True)
    assert bad not in protocol.waiting_for
    for round in range(3):
        for name in ctx.contacts[:-1]:
            tell(ctx, protocol, name, round)
        assert protocol.tag == (round + 1, 0), "nobody waits for it"
        protocol.on_peer(ctx, bad, True)
        if round == 2:
            tell(ctx, protocol, bad, 3)
            tell(ctx, protocol, bad, 3)
        ctx.end_training(protocol)
        assert bad not in protocol.waiting_for
    for name in ctx.contacts[:-1]:
        tell(ctx, protocol, name, 3)
    ctx.end_training(protocol)
    assert protocol.tag == (4, 0)
    assert bad in protocol.waiting_for


@pytest.mark.parametrize("neighbours", [1, 2, 4])
def test_a_wait_that_is_told_is_over_when_it_was_told_and_not_before(neighbours):
    ctx, protocol = peer_among(neighbours)
    assert protocol.present_wait() is None, "it trains"
    ctx.advance(protocol, 2.0)
    ctx.end_training(protocol)
    for name in ctx.contacts[1:]:
        tell(ctx, protocol, name, 0)
    told = protocol.present_wait()
    assert (told.peers, told.since_s) == ({ctx.contacts[0]}, 2.0)
    ctx.advance(protocol, told.until_s - ctx.time_s - 0.01)
    assert protocol.present_wait().peers == told.peers
    ctx.advance(protocol, 0.02)
    assert protocol.tag == (1, 0)
    assert protocol.present_wait() is None


def test_who_comes_back_in_the_middle_of_a_step_does_not_lengthen_it():
    ctx, protocol = peer_among(3)
    ctx.down.add("n2")
    ctx.end_training(protocol)
    ctx.down.clear()
    protocol.on_peer(ctx, "n2", True)
    tell(ctx, protocol, "n0", 0)
    tell(ctx, protocol, "n1", 0)
    assert protocol.tag == (1, 0)


def test_when_one_goes_away_those_who_have_come_may_be_most_and_the_habitually_late_are_spared():
    ctx, protocol = peer_among(4)
    for _ in range(3):
        protocol._near.sender("n3").observe((0, 0), 30.0)
    ctx.end_training(protocol)
    tell(ctx, protocol, "n0", 0)
    tell(ctx, protocol, "n1", 0)
    assert protocol.waiting_for == {"n2", "n3"}
    ctx.down.add("n2")
    protocol.on_peer(ctx, "n2", False)
    assert protocol.tag == (1, 0)


def test_who_has_finished_does_not_send_a_late_neighbour_what_it_was_sent_before():
    ctx, protocol = peer_among(1, rounds=1)
    ctx.end_training(protocol)
    ctx.advance(protocol, RoundsSettings().deadline_cap_s + 1)
    assert ctx.finished is not None
    assert len(ctx.take(ModelMessage)) == 1
    tell(ctx, protocol, "n0", 0)
    assert ctx.take(ModelMessage) == []


def test_a_miss_is_forgiven_for_a_late_model_but_not_for_one_after_rounds_that_were_passed_over():
    ctx, protocol = peer_among(2)
    ctx.end_training(protocol)
    tell(ctx, protocol, "n0", 0)
    ctx.advance(protocol, FLOOR_S + 1)
    assert (protocol.tag, protocol._near.senders["n1"].suspect) == ((1, 0), True)
    tell(ctx, protocol, "n1", 0)
    assert not protocol._near.senders["n1"].suspect
    protocol._near.senders["n1"].suspect = True
    for round in range(1, 6):
        ctx.end_training(protocol)
        tell(ctx, protocol, "n0", round)
    tell(ctx, protocol, "n1", 5)
    assert protocol._near.senders["n1"].suspect


def test_a_model_that_came_too_late_stands_in_for_the_next_one_once():
    ctx, protocol = peer_among(2, catch_up_rounds=9)
    ctx.end_training(protocol)
    tell(ctx, protocol, "n0", 0)
    ctx.advance(protocol, FLOOR_S + 1)
    tell(ctx, protocol, "n1", 0, model=7.0)
    protocol._near.senders["n1"].suspect = True
    for round in (1, 2):
        ctx.end_training(protocol)
        tell(ctx, protocol, "n0", round)
        tell(ctx, protocol, "n1", 0, model=7.0)
    senders = [[each.sender for each in received] for _, _, received in ctx.merged]
    assert senders == [["n0"], ["n0", "n1"], ["n0"]]
    assert ctx.merged[1][2][1][:3] == ("n1", 7.0, pytest.approx(1 / 3))
    assert [done.heard for done in ctx.completed] == [1, 1, 1]
    assert ctx.rejected == ["stale"] * 2, "it is no offence the first time, when it stands in"
    assert not protocol._near.senders["n1"].arrivals((0, 0)).known, "it counts as late once"


def test_a_neighbour_late_in_every_step_is_merged_and_offends_nobody_unless_it_is_far_behind():
    ctx, protocol = peer_among(3)
    for round in range(10):
        ctx.end_training(protocol)
        if round:
            tell(ctx, protocol, "n2", round - 1)
        tell(ctx, protocol, "n0", round)
        tell(ctx, protocol, "n1", round)
        ctx.advance(protocol, 60.0)
    assert sum(each.sender == "n2" for _, _, received in ctx.merged for each in received) == 9
    assert not ctx.rejected
    for round in (10, 11):
        ctx.end_training(protocol)
        tell(ctx, protocol, "n0", round)
        tell(ctx, protocol, "n1", round)
        ctx.advance(protocol, 60.0)
    tell(ctx, protocol, "n2", 9)
    assert ctx.rejected == ["stale"], "nobody merges it any more"


def test_what_is_waited_for_at_the_beginning_is_bounded_by_what_the_others_take_and_not_by_the_cap():
    ctx, protocol = peer_among(3)
    ctx.time_s = 0.5
    ctx.end_training(protocol)
    ctx.advance(protocol, 5.0)
    tell(ctx, protocol, "n0", 0)
    ctx.advance(protocol, 1.0)
    assert protocol.waiting_for == {"n1", "n2"}
    tell(ctx, protocol, "n1", 0)
    # Most took 6.5 s from the beginning of the update, and half of the account is more.
    assert OPENING_FLOORS * FLOOR_S / 2 > 6.5
    ctx.advance(protocol, 6.49)
    assert protocol.tag == (0, 0)
    ctx.advance(protocol, 0.02)
    assert protocol.tag == (1, 0)


def test_one_neighbour_alone_that_never_delivers_is_waited_for_to_the_cap_once():
    ctx, protocol = peer_among(1)
    ctx.end_training(protocol)
    ctx.advance(protocol, RoundsSettings().deadline_cap_s - 0.01)
    assert protocol.tag == (0, 0)
    ctx.advance(protocol, 0.02)
    ctx.end_training(protocol)
    assert protocol.tag == (2, 0)
    protocol.on_message(ctx, "n0", ModelMessage(round=2, step=0, model=1.0))
    ctx.end_training(protocol)
    assert [done.heard for done in ctx.completed] == [0, 0, 1]
