"""`[protocol] parts` of `rounds`: whose turn it is, what is mixed, what is refused, and what a late peer gets."""

from __future__ import annotations

from collections import defaultdict

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.protocols import ModelMessage, Rounds, RoundsSettings
from gossip.protocols.rounds.parts import PieceMessage
from tests.simulation.lone_peer import LonePeer
from tests.simulation.test_rounds import connected_graphs, matrix, metropolis_rows
from tests.simulation.world import Links, World

PARTS = st.sampled_from([1, 2, 3, 4, 7])


def world_of(
    graph: nx.Graph, start: np.ndarray, settings: RoundsSettings, *, rounds: int, **options: object
) -> World:
    """Models (S,) have a number for each part; `start` is (peers, S)."""
    rows = metropolis_rows(graph)

    def make(name: str, round: int) -> Rounds:
        return Rounds(settings, rounds=rounds, model=start[int(name[1:])].copy(), start_round=round)

    return World(lambda round: rows, make, len(rows), **options)  # type: ignore[arg-type]


def turns(parts: int, steps: int) -> list[int]:
    """Return of each part how many of so many steps were its turn."""
    return [len(range(place, steps, parts)) for place in range(parts)]


@given(connected_graphs(), PARTS, st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**16))
def test_each_part_is_mixed_in_its_turn_and_in_no_other(graph, parts, gossip_steps, rounds, seed):
    start = np.random.default_rng(seed).normal(size=(len(graph), parts))
    settings = RoundsSettings(gossip_steps=gossip_steps, parts=parts)
    links = Links(delay_s=lambda rng: rng.exponential(0.05))
    world = world_of(graph, start, settings, rounds=rounds, links=links, seed=seed)
    world.start()
    world.run()
    mixing = matrix(metropolis_rows(graph))
    for place, count in enumerate(turns(parts, gossip_steps * rounds)):
        mixed = np.linalg.matrix_power(mixing, count) @ start[:, place]
        np.testing.assert_allclose(world.final()[:, place], mixed, atol=1e-9)
        assert world.final()[:, place].mean() == pytest.approx(start[:, place].mean(), abs=1e-9)
    assert not world.rejected
    kind = "model" if parts == 1 else "piece"
    edges = sum(len(row) for row in metropolis_rows(graph))
    assert world.sent[kind] == edges * gossip_steps * rounds


@given(connected_graphs(), st.integers(1, 5), st.integers(0, 2**16))
def test_as_many_steps_as_parts_are_one_step_of_whole_models_whatever_is_trained(graph, parts, seed):
    start = np.random.default_rng(seed).normal(size=(len(graph), parts))
    finals = []
    for settings in (RoundsSettings(gossip_steps=parts, parts=parts), RoundsSettings()):
        world = world_of(
            graph,
            start,
            settings,
            rounds=3,
            train=lambda name, model, round: 0.9 * model + int(name[1:]) - 0.1 * round,
        )
        world.start()
        world.run()
        finals.append(world.final())
    np.testing.assert_array_equal(*finals)


@given(
    PARTS, st.integers(1, 4), st.integers(1, 6), st.sampled_from(["adapt-then-combine", "combine-then-adapt"])
)
def test_in_step_no_part_is_older_than_so_many_steps_as_there_are_parts(parts, gossip_steps, rounds, order):
    """Seen from each merge, the part merged was merged that many steps ago, and so was every sender's."""
    start = np.zeros((3, parts))
    settings = RoundsSettings(gossip_steps=gossip_steps, parts=parts, order=order)
    world = world_of(nx.complete_graph(3), start, settings, rounds=rounds)
    merged: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    original = Rounds.on_message
    seen = []

    def watched(self, ctx, sender, message):
        if isinstance(message, ModelMessage | PieceMessage):
            place = getattr(message, "part", 0)
            merged[f"{sender}>{ctx.peer}"][place].append(message.round * gossip_steps + message.step)
            seen.append(place)
        original(self, ctx, sender, message)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rounds, "on_message", watched)
        world.start()
        world.run()
    for of_link in merged.values():
        for place, steps in of_link.items():
            assert steps == list(range(place, gossip_steps * rounds, parts))
    assert set(seen) == set(range(min(parts, gossip_steps * rounds)))


@given(st.integers(2, 5), st.integers(1, 3), st.floats(0, 0.2), st.integers(0, 2**16))
def test_whatever_is_lost_all_finish_and_no_number_leaves_the_range_of_its_part(parts, steps, loss, seed):
    rng = np.random.default_rng(seed)
    start = rng.normal(size=(6, parts))
    settings = RoundsSettings(gossip_steps=steps, parts=parts, deadline_floor_s=0.5, deadline_cap_s=3)
    links = Links(delay_s=lambda rng: rng.exponential(0.2), loss=loss, duplication=0.05, reorder=True)
    world = world_of(nx.cycle_graph(6), start, settings, rounds=12, links=links, seed=seed)
    world.at(3.0, lambda: world.crash("p002"))
    world.at(6.0 + float(rng.uniform(0, 20)), lambda: world.restart("p002", 2))
    world.start()
    world.run()
    assert all(peer.finished is not None for peer in world.peers.values())
    final = world.final()
    assert (final <= start.max(axis=0) + 1e-9).all()
    assert (final >= start.min(axis=0) - 1e-9).all()


def test_who_comes_back_when_all_have_finished_gets_all_parts_of_their_models():
    start = np.array([[10.0] * 4, *([[0.0] * 4] * 5)])
    settings = RoundsSettings(parts=4, deadline_floor_s=0.5, deadline_cap_s=2)
    world = world_of(nx.complete_graph(6), start, settings, rounds=40)
    world.at(0.5, lambda: world.crash("p000"))
    world.at(500.0, lambda: world.restart("p000", 0))
    world.start()
    world.run()
    assert world.peers["p000"].finished is not None
    assert world.adopted == 1
    np.testing.assert_array_less(world.final()[0], 3.0)
    assert world.sent["model"] > 0, "that is told whole"


def test_a_machine_that_is_always_late_is_heard_at_the_next_turn_of_each_part():
    start = np.array([[1.0] * 3, [0.0] * 3, [0.0] * 3])
    settings = RoundsSettings(
        parts=3, deadline_floor_s=0.1, deadline_cap_s=0.5, deadline_share=0.0, catch_up_rounds=3
    )
    world = world_of(nx.complete_graph(3), start, settings, rounds=30)
    world.late_s["p000"] = 1.3  # a local update takes 1 s
    world.start()
    world.run()
    stood_in = [name for name, _, _, received in world.merges for each in received if each.sender == "p000"]
    assert {"p001", "p002"} <= set(stood_in)
    np.testing.assert_array_less(0.1, world.final()[1])


@pytest.mark.parametrize("parts", [2, 3])
def test_a_late_part_stands_in_for_no_whole_model_of_a_final_step(parts):
    start = np.array([[1.0] * parts, *([[0.0] * parts] * 3)])
    settings = RoundsSettings(parts=parts, deadline_floor_s=0.05, deadline_cap_s=0.4, deadline_share=0.0)
    links = Links(delay_s=lambda rng: 0.3)
    world = world_of(nx.complete_graph(4), start, settings, rounds=2 * parts + 1, links=links)
    rows = metropolis_rows(nx.complete_graph(4))
    world.final_rows = lambda step: rows
    for peer in world.peers.values():
        peer.protocol.merge_at_the_end(2, exact=True)
    world.late_s["p000"] = 0.2  # its part of the last round's own step comes in the first final one
    world.start()
    world.run()
    assert any(each.sender == "p000" for _, _, _, received in world.merges for each in received)
    assert (world.final() <= 1.0).all()


# --- alone ---


def alone(parts: int = 4) -> tuple[LonePeer, Rounds]:
    ctx = LonePeer("p0", ["p0", "p1", "p2"])
    ctx.neighbours = lambda round: {"p1": 1 / 3, "p2": 1 / 3}  # type: ignore[method-assign]
    protocol = Rounds(RoundsSettings(parts=parts, gossip_steps=2), rounds=8, model=0.0)
    protocol.on_start(ctx)
    ctx.end_training(protocol)
    return ctx, protocol


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (4, PieceMessage(round=0, step=0, part=1, parts=4, model=9.0)),
        (4, PieceMessage(round=0, step=0, part=0, parts=5, model=9.0)),
        (4, PieceMessage(round=1, step=1, part=2, parts=4, model=9.0)),
        (4, PieceMessage(round=0, step=0, part=-4, parts=4, model=9.0)),
        (4, ModelMessage(round=0, step=1, model=9.0)),
        (1, PieceMessage(round=0, step=0, part=0, parts=1, model=9.0)),
        (1, PieceMessage(round=0, step=0, part=0, parts=4, model=9.0)),
    ],
)
def test_a_part_whose_turn_it_is_not_is_refused(parts, message):
    ctx, protocol = alone(parts)
    protocol.on_message(ctx, "p1", message)
    assert ctx.rejected == ["no-such-part"]
    assert protocol.waiting_for == {"p1", "p2"}


def test_the_tag_says_which_part_is_sent():
    ctx, _ = alone()
    assert [(m.round, m.step, m.part, m.parts) for _, m in ctx.take(PieceMessage)] == 2 * [(0, 0, 0, 4)]
    assert PieceMessage(round=3, step=1, part=3, parts=4, model=0.0).number == 193


def test_settings_without_parts_are_what_they_were():
    assert RoundsSettings().model_dump() == RoundsSettings(parts=1).model_dump()
