"""What neighbours say of how far they are moves a peer of `rounds` no farther than honest ones are, or time allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.protocols import FinishedMessage, Message, ModelAdopted, ModelMessage, Rounds, RoundsSettings
from gossip.protocols.rounds.catching_up import SETTLED_ROUNDS, LostTime, most_of, reached_by_most
from gossip.protocols.rounds.inbox import KEPT_PER_SENDER_MAX
from gossip.protocols.rounds.neighbourhood import ROWS_LOOKED_UP
from gossip.protocols.rounds.saved import Saved
from tests.laws import tried
from tests.simulation.lone_peer import LonePeer
from tests.simulation.test_rounds import world_of
from tests.simulation.world import World

ROUNDS = 40
ROUND_S = 1.01
"""A round of `World`: an update of a second, and a message's way."""


def far_ahead(rounds: int, model: float = 0.0) -> Callable[[str, Message], Sequence[Message]]:
    """Claim to have finished, with a model of the liar's choice, whatever is to be said."""
    return lambda receiver, message: (ModelMessage(round=rounds, step=0, model=model),)


def own_rounds(world: World, name: str) -> list[int]:
    return [done.round for done in world.peers[name].completed]


def honest_of(world: World) -> list[str]:
    return [name for name in world.names if name not in world.says]


# --- whole runs ---


@pytest.mark.parametrize("graph", [nx.cycle_graph(4), nx.complete_graph(4), nx.path_graph(2)])
@pytest.mark.parametrize("model", [0.0, math.nan])
def test_one_message_that_claims_the_end_ends_no_honest_run(graph, model):
    world = world_of(graph, np.arange(1.0, len(graph) + 1), rounds=ROUNDS)
    liar = world.names[-1]
    world.says[liar] = lambda receiver, message: ()
    lie = ModelMessage(round=ROUNDS, step=0, model=model)
    world.start()
    for at_s in (0.5, 5.3):
        for victim in honest_of(world):
            world.at(at_s, lambda victim=victim: world._deliver(liar, victim, 0, lie))
    world.run()
    for name in honest_of(world):
        assert own_rounds(world, name) == list(range(1, ROUNDS + 1))
        assert world.peers[name].finished >= ROUNDS * 1.0
    assert world.adopted == 0


@given(st.sampled_from([(3, 2), (4, 2), (5, 4), (6, 3), (8, 3)]), st.integers(0, 2**16), st.integers(1, 3))
@tried(0.25)
def test_honest_peers_advance_no_faster_than_the_fastest_of_them_whatever_a_minority_claims(
    shape, seed, gossip_steps
):
    peers, degree = shape
    rng = np.random.default_rng(seed)
    graph = nx.random_regular_graph(degree, peers, seed=seed)
    world = world_of(graph, rng.normal(size=peers), rounds=ROUNDS, gossip_steps=gossip_steps, seed=seed)
    liar = str(rng.choice(world.names))

    def lie(receiver: str, message: Message) -> Sequence[Message]:
        if not isinstance(message, ModelMessage):
            return (FinishedMessage(round=ROUNDS),)
        tag = (int(rng.integers(message.round, ROUNDS)), int(rng.integers(gossip_steps)))
        claim = tag if rng.random() < 0.7 else (ROUNDS, 0)
        return (ModelMessage(round=claim[0], step=claim[1], model=1e3), message)[: rng.integers(1, 3)]

    world.says[liar] = lie
    late = str(rng.choice(honest_of(world)))
    world.start()
    if degree > 2:
        world.at(3.5, lambda: world.crash(late))
        world.at(15.0, lambda: world.restart(late, 3))
    world.run()
    for name in honest_of(world):
        peer = world.peers[name]
        assert peer.finished is not None
        for done, at_s in zip(peer.completed, peer.completed_at, strict=True):
            # Each round takes a second, also that of the fastest.
            assert done.round <= at_s + 1e-9, f"{name} did round {done.round} at {at_s}"
        assert own_rounds(world, name)[-1] == ROUNDS
    if degree > 2:
        assert max(np.diff(own_rounds(world, late))) > 5, "who is really behind is moved"


def test_a_peer_that_is_behind_goes_where_an_honest_neighbour_is_and_not_where_a_liar_says():
    # As before, one honest neighbour ahead and one liar are most of three; what was adopted spread by adoption.
    world = world_of(nx.complete_graph(6), np.zeros(6), rounds=400)
    world.says["p005"] = far_ahead(400, model=1.0)
    world.start()
    for name in ("p000", "p001"):
        world.at(3.5, lambda name=name: world.crash(name))
        world.at(30.0, lambda name=name: world.restart(name, 3))
    world.run(until=60.0)
    assert world.adopted == 2
    for name in honest_of(world):
        assert 55 <= world.peers[name].protocol.tag[0] <= 60


# --- one peer and what it is told ---


class Among(LonePeer):
    """A lone peer with equal weights for itself and its neighbours."""

    def audience(self, round: int) -> Sequence[str]:
        return tuple(self.neighbours(round))

    def neighbours(self, round: int) -> Mapping[str, float]:
        return {name: 1 / len(self.peers) for name in self.contacts}


def peer_among(
    neighbours: int, *, rounds: int = 1000, catch_up_rounds: int = 2, **saved: float
) -> tuple[Among, Rounds]:
    ctx = Among("me", ["me", *(f"n{k}" for k in range(neighbours))])
    chosen = RoundsSettings(catch_up_rounds=catch_up_rounds)
    protocol = Rounds(chosen, rounds=rounds, model=0.0, saved=Saved(**saved))
    protocol.on_start(ctx)
    return ctx, protocol


def tell(ctx: LonePeer, protocol: Rounds, sender: str, round: int, model: float = 0.0) -> None:
    protocol.on_message(ctx, sender, ModelMessage(round=round, step=0, model=model))


def moved_to(ctx: LonePeer) -> list[int]:
    """Return the rounds that the peer was moved to."""
    return [event.round for event in ctx.events if isinstance(event, ModelAdopted)]


def wait_out(ctx: Among, protocol: Rounds, seconds: float) -> None:
    """Let time pass until the present step has ended without those who keep silent, and train."""
    for _ in range(100):
        if ctx.training:
            break
        ctx.time_s += seconds
        protocol.on_timer(ctx, "deadline")
    ctx.time_s += 1.0
    ctx.end_training(protocol)


tags = st.tuples(st.integers(-1, 30), st.integers(0, 3))


@given(st.lists(tags, min_size=1, max_size=12))
def test_most_have_been_at_least_where_most_have_been_and_less_than_half_are_beyond(said):
    target = reached_by_most(said)
    assert target in said
    assert sum(tag >= target for tag in said) > len(said) / 2
    assert sum(tag > target for tag in said) <= len(said) / 2


@given(st.lists(tags, min_size=3, max_size=12), st.data())
def test_a_minority_neither_raises_it_above_the_honest_nor_moves_it_alone(said, data):
    liars = data.draw(st.integers(1, most_of(len(said)) - 1))
    honest = said[liars:]
    assert reached_by_most([(1000, 0)] * liars + honest) <= max(honest)
    assert reached_by_most(said) == reached_by_most(data.draw(st.permutations(said)))


def test_one_honest_neighbour_ahead_and_one_liar_bring_a_peer_to_the_honest_one():
    ctx, protocol = peer_among(3)
    ctx.end_training(protocol)
    tell(ctx, protocol, "n2", 900, model=1e6)
    assert protocol.tag == (0, 0)
    tell(ctx, protocol, "n0", 30, model=4.0)
    assert protocol.tag == (30, 0)
    own, own_weight, received = ctx.merged[-1]
    assert (own, own_weight) == (1.0, pytest.approx(1 / 3))
    assert {each.sender: each.weight for each in received} == {
        "n0": pytest.approx(1 / 3),
        "n2": pytest.approx(1 / 3),
    }
    assert moved_to(ctx) == [30]


def test_of_two_neighbours_both_must_be_ahead_and_the_lesser_counts():
    ctx, protocol = peer_among(2)
    ctx.end_training(protocol)
    tell(ctx, protocol, "n1", 900)
    assert protocol.tag == (0, 0)
    tell(ctx, protocol, "n0", 30)
    assert moved_to(ctx) == [30]


@pytest.mark.parametrize("neighbours", [1, 2, 3])
def test_no_claim_spares_a_peer_its_own_last_round(neighbours):
    ctx, protocol = peer_among(neighbours, rounds=10, pace_s=1.0, away_s=1e6)
    ctx.end_training(protocol)
    for name in ctx.contacts:
        tell(ctx, protocol, name, 10, model=8.0)
    assert protocol.tag == (9, 0)
    assert ctx.finished is None
    assert ctx.trained == [0, 9]
    ctx.end_training(protocol)
    # The final models are merged in place of those of the last round, which will not be sent.
    assert ctx.finished is not None
    assert {each.sender for merge in ctx.merged for each in merge[2]} == set(ctx.contacts)
    assert {each.model for merge in ctx.merged for each in merge[2]} == {8.0}
    assert ctx.completed[-1].heard == 0


@pytest.mark.parametrize("neighbours", [1, 2])
@pytest.mark.parametrize(("away_s", "could"), [(0.0, 0), (3.9, 1), (4.0, 2), (9.0, 4), (1e5, 998)])
def test_a_single_word_is_believed_as_far_as_there_was_time_for(neighbours, away_s, could):
    pace_s = 2.0
    ctx, protocol = peer_among(neighbours, pace_s=pace_s, away_s=away_s)
    ctx.time_s = pace_s
    ctx.end_training(protocol)
    tell(ctx, protocol, "n0", 900)
    assert moved_to(ctx) == ([min(could, 900)] if could >= 2 else [])
    for more in range(1, 10):
        tell(ctx, protocol, "n0", 950 + more)
        if ctx.training:
            ctx.time_s += pace_s
            ctx.end_training(protocol)
        assert protocol.tag[0] <= could + 1 + more


def test_who_keeps_in_step_with_its_only_neighbour_is_moved_nowhere():
    ctx, protocol = peer_among(1, away_s=1000.0, pace_s=1.0)
    for round in range(SETTLED_ROUNDS):
        ctx.time_s += 1.5
        ctx.end_training(protocol)
        tell(ctx, protocol, "n0", round)
    ctx.time_s += 1.5
    ctx.end_training(protocol)
    tell(ctx, protocol, "n0", 900)
    assert [done.round for done in ctx.completed] == [1, 2, 3, 4]
    assert moved_to(ctx) == []


def test_who_hears_neither_of_two_neighbours_is_not_in_step_and_keeps_its_credit():
    ctx, protocol = peer_among(2, away_s=100.0, pace_s=1.0)
    for known in protocol._near.senders.values():
        known.suspect = True
    for _ in range(2 * SETTLED_ROUNDS):
        ctx.time_s += 1.0
        ctx.end_training(protocol)
    ctx.time_s += 1.0
    ctx.end_training(protocol)
    tell(ctx, protocol, "n1", 900)
    ctx.time_s += 1.0
    ctx.end_training(protocol)
    assert moved_to(ctx) == [107]


def test_a_late_peer_that_nobody_may_move_follows_with_its_model():
    ctx, protocol = peer_among(1, rounds=100)
    for round in range(10):
        tell(ctx, protocol, "n0", 50 + round, model=100.0)
        ctx.time_s += 1.0
        ctx.end_training(protocol)
    assert protocol.tag[0] == 10
    assert ctx.merged[-1][2][0].weight == 0.5
    assert ctx.completed[-1].model == pytest.approx(100.0, abs=2.0)
    assert {done.heard for done in ctx.completed} == {0}


def test_one_message_of_one_far_ahead_changes_one_step_and_the_next_one_another():
    ctx, protocol = peer_among(3, rounds=100)
    tell(ctx, protocol, "n0", 50, model=100.0)
    for _ in range(5):
        ctx.end_training(protocol)
        for name in ("n1", "n2"):
            tell(ctx, protocol, name, protocol.tag[0], model=0.0)
    zeros_aside = [each.model for merge in ctx.merged for each in merge[2] if each.sender == "n0"]
    assert zeros_aside == [100.0]
    tell(ctx, protocol, "n0", 50, model=200.0)
    ctx.end_training(protocol)
    for name in ("n1", "n2"):
        tell(ctx, protocol, name, protocol.tag[0], model=0.0)
    assert [each.model for each in ctx.merged[-1][2] if each.sender == "n0"] == [200.0]


def test_one_message_of_one_alone_moves_a_peer_once_however_much_time_it_loses():
    ctx, protocol = peer_among(1, away_s=4.0, pace_s=1.0)
    wait_out(ctx, protocol, 30.0)
    tell(ctx, protocol, "n0", 900, model=100.0)
    (first,) = moved_to(ctx)
    for _ in range(5):
        ctx.time_s += 30.0
        wait_out(ctx, protocol, 30.0)
    assert moved_to(ctx) == [first]
    assert len(ctx.merged) == 1
    tell(ctx, protocol, "n0", 901, model=100.0)
    wait_out(ctx, protocol, 30.0)
    assert len(moved_to(ctx)) == 2, "by the next one it is"


@pytest.mark.parametrize("silent_s", [0.5, 5.0, 50.0])
def test_of_two_neighbours_one_in_step_is_enough_for_the_other_to_move_nobody(silent_s):
    ctx, protocol = peer_among(2, pace_s=1.0)
    wait_out(ctx, protocol, silent_s)
    for _ in range(3 * SETTLED_ROUNDS):
        # The other one keeps silent, and is waited for until the deadline.
        tell(ctx, protocol, "n0", protocol.tag[0])
        wait_out(ctx, protocol, silent_s)
    for _ in range(3):
        tell(ctx, protocol, "n1", 900)
        tell(ctx, protocol, "n0", protocol.tag[0])
        wait_out(ctx, protocol, silent_s)
    assert moved_to(ctx) == []
    assert len(ctx.completed) > 3 * SETTLED_ROUNDS


def test_whoever_waits_beside_a_neighbour_in_step_is_not_moved_by_whom_it_waits_for():
    ctx, protocol = peer_among(2, pace_s=1.0)
    wait_out(ctx, protocol, 1.0)
    for _ in range(2 * SETTLED_ROUNDS):
        here = protocol.tag[0]
        for name in ctx.contacts:
            tell(ctx, protocol, name, here)
        wait_out(ctx, protocol, 1.0)
    tell(ctx, protocol, "n0", protocol.tag[0])
    ctx.time_s += 50.0
    tell(ctx, protocol, "n1", 900)
    assert moved_to(ctx) == []


def test_a_neighbour_that_is_gone_or_hardly_ahead_has_nobody_stand_in_for_it():
    ctx, protocol = peer_among(1, rounds=100)
    tell(ctx, protocol, "n0", 1, model=100.0)
    ctx.end_training(protocol)
    assert ctx.merged == []
    tell(ctx, protocol, "n0", 50, model=100.0)
    ctx.down.add("n0")
    protocol.on_peer(ctx, "n0", False)
    ctx.end_training(protocol)
    assert [(each.model, each.weight) for each in ctx.merged[-1][2]] == [(100.0, 0.5)], "of the present step"
    ctx.end_training(protocol)
    assert len(ctx.merged) == 1


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1100)), max_size=60))
def test_no_claims_make_a_peer_keep_more_than_two_models_of_a_neighbour(claims):
    ctx, protocol = peer_among(3)
    ctx.end_training(protocol)
    for who, round in claims:
        tell(ctx, protocol, f"n{who}", round)
        assert all(len(known.kept) <= KEPT_PER_SENDER_MAX for known in protocol._near.senders.values())
        if ctx.training:
            ctx.end_training(protocol)


@given(st.lists(st.tuples(st.floats(0, 20), st.booleans()), max_size=40), st.floats(0.01, 3))
def test_the_credit_is_never_more_than_there_was_time_for(rounds, pace_s):
    lost = LostTime(pace_s=pace_s, away_s=0.0)
    lost.begin(0.0)
    now_s, done = 0.0, 0
    for took_s, in_step in rounds:
        now_s += pace_s + took_s
        done += 1
        lost.round_done(now_s, in_step=in_step)
        credit = lost.credit_rounds(now_s)
        assert done + credit <= max(done, now_s / pace_s - 1 + 1e-6)
        if credit > 1:
            lost.moved(credit)
            done += credit


def test_a_resumed_peer_knows_its_pace_and_how_long_it_was_away():
    ctx, protocol = peer_among(1)
    ctx.time_s = 2.5
    ctx.end_training(protocol)
    state = protocol.snapshot()
    assert state == {"round": 0, "pace_s": 2.5}
    again = Rounds.resume(RoundsSettings(), rounds=100, model=0.0, state={**state, "away_s": 26.0})
    ctx = Among("me", ["me", "n0"])
    again.on_start(ctx)
    ctx.end_training(again)
    assert again.snapshot()["pace_s"] < 2.5


# --- graphs that vary ---


def one_peer_rows(round: int) -> list[dict[str, float]]:
    """One neighbour a round, along the axes of a cube in turn."""
    return [{f"p{i ^ 1 << round % 3:03d}": 0.5} for i in range(8)]


def world_of_one_peer_rounds() -> World:
    return World(
        one_peer_rows,
        lambda name, round: Rounds(RoundsSettings(), rounds=ROUNDS, model=0.0, start_round=round),
        8,
        # Updates that differ: who has lost time could be told that it is behind.
        train_s=lambda name, round: 1.0 if (int(name[1:]) + round) % 3 else 1.5,
        contacts=[[f"p{i ^ 1 << axis:03d}" for axis in range(3)] for i in range(8)],
    )


@pytest.mark.parametrize("victim_stops", [False, True])
def test_where_each_round_has_one_neighbour_a_liar_moves_nobody_who_is_not_behind(victim_stops):
    world = world_of_one_peer_rounds()
    world.says["p007"] = lambda receiver, message: tuple(
        ModelMessage(round=round, step=0, model=1e3)
        for round in (*range(ROUNDS - 3, ROUNDS), ROUNDS)
        if round == ROUNDS or receiver in one_peer_rows(round)[7]
    )
    world.start()
    if victim_stops:
        world.at(3.5, lambda: world.crash("p003"))
        world.at(20.0, lambda: world.restart("p003", 3))
    world.run()
    for name in honest_of(world):
        peer = world.peers[name]
        assert own_rounds(world, name)[-1] == ROUNDS
        assert all(done.round <= at_s for done, at_s in zip(peer.completed, peer.completed_at, strict=True))
        moved = max(np.diff(own_rounds(world, name))) > 1
        assert moved == (victim_stops and name == "p003"), "only who is really behind is moved"


class Varying(LonePeer):
    """A lone peer that has every other peer in turn as its only neighbour; counts how often it asks for a row."""

    asked = 0

    def audience(self, round: int) -> Sequence[str]:
        return (self.contacts[round % len(self.contacts)],)

    def neighbours(self, round: int) -> Mapping[str, float]:
        self.asked += 1
        return {self.contacts[round % len(self.contacts)]: 0.5}


def varying(neighbours: int, **options: object) -> tuple[Varying, Rounds]:
    ctx = Varying("me", ["me", *(f"n{k}" for k in range(neighbours))])
    protocol = Rounds(RoundsSettings(), rounds=100_000, model=0.0, **options)  # type: ignore[arg-type]
    protocol.on_start(ctx)
    return ctx, protocol


def test_made_up_rounds_build_no_graphs():
    ctx, protocol = varying(3, start_round=500)
    for tag in [*range(0, 99_999, 7), *range(480, 520), *range(480, 520)]:
        for name in ctx.contacts:
            tell(ctx, protocol, name, tag)
    assert 1 < ctx.asked <= 2 * ROWS_LOOKED_UP + 1


def test_near_rounds_are_refused_from_those_who_are_no_neighbours_in_them():
    ctx, protocol = varying(3, start_round=300)
    tell(ctx, protocol, "n0", 301)
    assert ctx.rejected == ["not-a-neighbour"]
    tell(ctx, protocol, "n1", 301)
    assert ctx.rejected == ["not-a-neighbour"]
    assert set(protocol._near.senders) == {"n0", "n1"}, (
        "the one of the own row, and the one that was believed"
    )


@pytest.mark.parametrize("round", [0, 1, 40, 999, 1000])
def test_who_is_no_contact_is_refused_whatever_the_round(round):
    ctx, protocol = peer_among(2)
    tell(ctx, protocol, "stranger", round)
    assert ctx.rejected == ["not-a-neighbour"]
    assert "stranger" not in protocol._near.senders
