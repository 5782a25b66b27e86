"""`[protocol] order` of `rounds`: what is mixed, what travels when, and what a restart or a move keeps of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.protocols import ModelMessage, Rounds, RoundsSettings
from tests.simulation import swarm
from tests.simulation.lone_peer import LonePeer
from tests.simulation.test_rounds import connected_graphs, matrix, metropolis_rows
from tests.simulation.world import Links, World

ORDERS = ("adapt-then-combine", "combine-then-adapt")


def world_of(
    graph: nx.Graph, start: np.ndarray, *, order: str, rounds: int, gossip_steps: int = 1, **options: object
) -> World:
    rows = metropolis_rows(graph)
    config = RoundsSettings(order=order, gossip_steps=gossip_steps)
    # The update of a peer and round: some function of the model that depends on both.
    return World(
        lambda round: rows,
        lambda name, round: Rounds(
            config, rounds=rounds, model=float(start[int(name[1:])]), start_round=round
        ),
        len(rows),
        train=updated,
        **options,  # type: ignore[arg-type]
    )


def updated(name: str, model: float, round: int) -> float:
    return 0.9 * model + int(name[1:]) - 0.1 * round


def all_updated(models: np.ndarray, round: int) -> np.ndarray:
    return np.array([updated(f"p{k:03d}", float(model), round) for k, model in enumerate(models)])


@given(
    connected_graphs(), st.sampled_from(ORDERS), st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**16)
)
def test_a_round_is_what_the_formula_says(graph, order, gossip_steps, rounds, seed):
    start = np.random.default_rng(seed).normal(size=len(graph))
    links = Links(delay_s=lambda rng: rng.exponential(0.05))
    world = world_of(
        graph, start, order=order, rounds=rounds, gossip_steps=gossip_steps, links=links, seed=seed
    )
    world.start()
    world.run()
    mixing = np.linalg.matrix_power(matrix(metropolis_rows(graph)), gossip_steps)
    expected = start
    for round in range(rounds):
        trained = all_updated(expected, round)
        adapted_last = mixing @ expected + (trained - expected)
        expected = mixing @ trained if order == "adapt-then-combine" else adapted_last
    np.testing.assert_allclose(world.final(), expected, atol=1e-9)
    assert all(peer.finished is not None for peer in world.peers.values())
    assert not world.rejected


@given(connected_graphs(), st.integers(1, 3), st.integers(0, 2**16))
def test_the_mean_of_all_models_moves_alike_in_one_round(graph, gossip_steps, seed):
    start = np.random.default_rng(seed).normal(size=len(graph))
    means = []
    for order in ORDERS:
        world = world_of(graph, start, order=order, rounds=1, gossip_steps=gossip_steps, seed=seed)
        world.start()
        world.run()
        means.append(world.final().mean())
    assert means[0] == pytest.approx(means[1], abs=1e-9)
    assert means[0] == pytest.approx(all_updated(start, 0).mean(), abs=1e-9)


@pytest.mark.parametrize(("order", "round_s"), [("adapt-then-combine", 1.9), ("combine-then-adapt", 1.0)])
def test_models_that_are_sent_first_travel_while_they_are_trained(order, round_s):
    world = world_of(
        nx.cycle_graph(5),
        np.arange(5.0),
        order=order,
        rounds=10,
        links=Links(delay_s=lambda rng: 0.9),
        train_s=lambda name, round: 1.0,
    )
    world.start()
    world.run()
    for peer in world.peers.values():
        assert peer.completed_at == pytest.approx([round_s * (k + 1) for k in range(10)])


def test_a_peer_that_crashes_in_a_round_begins_it_again_from_its_checkpoint():
    graph = nx.complete_graph(4)
    world = world_of(graph, np.zeros(4), order="combine-then-adapt", rounds=12)
    world.start()
    world.at(3.5, lambda: world.crash("p001"))
    world.at(6.2, lambda: world.restart("p001", 3))
    world.run()
    assert all(peer.finished is not None for peer in world.peers.values())
    assert world.peers["p001"].completed[-1].round == 12


# --- one peer and what it is told ---


class Among(LonePeer):
    """A lone peer with a third for itself and for each of two neighbours."""

    def audience(self, round: int) -> Sequence[str]:
        return tuple(self.neighbours(round))

    def neighbours(self, round: int) -> Mapping[str, float]:
        return dict.fromkeys(self.contacts, 1 / len(self.peers))


def alone(*, gossip_steps: int = 1, rounds: int = 100, down: tuple[str, ...] = ()) -> tuple[Among, Rounds]:
    ctx = Among("me", ["me", "n0", "n1"])
    ctx.down.update(down)
    config = RoundsSettings(order="combine-then-adapt", gossip_steps=gossip_steps)
    protocol = Rounds(config, rounds=rounds, model=0.0)
    protocol.on_start(ctx)
    return ctx, protocol


def tell(ctx: LonePeer, protocol: Rounds, sender: str, round: int, model: float, step: int = 0) -> None:
    protocol.on_message(ctx, sender, ModelMessage(round=round, step=step, model=model))


def said(ctx: LonePeer) -> list[tuple[str, int, int, float]]:
    return [(peer, m.round, m.step, m.model) for peer, m in ctx.take(ModelMessage)]


def test_the_model_is_sent_once_to_each_before_it_is_trained():
    ctx, protocol = alone()
    assert said(ctx) == [("n0", 0, 0, 0.0), ("n1", 0, 0, 0.0)]
    assert len(ctx.training) == 1
    for name in ("n0", "n1"):
        tell(ctx, protocol, name, 0, 3.0)
    assert not ctx.merged
    ctx.end_training(protocol)
    # W x = 2, and training has added 1.
    assert ctx.completed[-1].model == pytest.approx(3.0)
    assert [entry[:3] for entry in said(ctx)] == [("n0", 1, 0), ("n1", 1, 0)]


def test_who_comes_while_the_model_is_trained_is_sent_it_then_and_not_again():
    ctx, protocol = alone(down=("n1",))
    assert said(ctx) == [("n0", 0, 0, 0.0)]
    ctx.down.clear()
    protocol.on_peer(ctx, "n1", True)
    assert said(ctx) == [("n1", 0, 0, 0.0)]
    ctx.end_training(protocol)
    assert said(ctx) == []
    assert protocol.waiting_for == {"n0", "n1"}


def test_between_steps_it_is_the_mixed_model_that_is_sent():
    ctx, protocol = alone(gossip_steps=2)
    said(ctx)
    ctx.end_training(protocol)
    for name in ("n0", "n1"):
        tell(ctx, protocol, name, 0, 3.0)
    assert said(ctx) == [("n0", 0, 1, 2.0), ("n1", 0, 1, 2.0)]
    for name in ("n0", "n1"):
        tell(ctx, protocol, name, 0, 5.0, step=1)
    assert ctx.completed[-1].model == pytest.approx((2 + 5 + 5) / 3 + 1)


def test_a_lonely_round_leaves_exactly_what_was_trained():
    ctx, protocol = alone(down=("n0", "n1"))
    ctx.end_training(protocol)
    assert (ctx.completed[-1].model, ctx.merged, ctx.moves) == (1.0, [], [])


def test_who_is_moved_keeps_its_update_and_trains_in_the_round_that_it_is_moved_to():
    ctx, protocol = alone()
    said(ctx)
    for name in ("n0", "n1"):
        tell(ctx, protocol, name, 30, 7.0)
    ctx.end_training(protocol)
    assert ctx.merged == [(1.0, pytest.approx(1 / 3), ctx.merged[0][2])]
    assert (protocol.tag, ctx.trained) == ((30, 0), [0, 30])
    assert said(ctx) == [
        ("n0", 30, 0, pytest.approx(5.0)),
        ("n1", 30, 0, pytest.approx(5.0)),
    ]
    ctx.end_training(protocol)
    assert ctx.completed[-1].model == pytest.approx((5 + 7 + 7) / 3 + 1)


def test_who_is_moved_into_the_middle_of_a_round_has_no_update_of_it():
    ctx, protocol = alone(gossip_steps=2)
    ctx.end_training(protocol)
    for name in ("n0", "n1"):
        tell(ctx, protocol, name, 30, 7.0, step=1)
    # What it had trained is in what it brings along; the two models of (30, 1) are merged once more, in that step.
    assert [own for own, *_ in ctx.merged] == [1.0, pytest.approx(5.0)]
    assert (ctx.completed[-1].round, ctx.completed[-1].model) == (31, pytest.approx((5 + 7 + 7) / 3))
    assert ctx.trained == [0, 31]


@pytest.mark.parametrize("seed", [0, 1, 3, 4, 6, 9])
def test_whatever_goes_wrong_nothing_forbidden_happens_and_afterwards_all_finish(seed):
    swarm.run_seed(seed, "combine-then-adapt")


def test_the_same_seed_gives_the_same_digest_and_the_order_another_one():
    digests = [swarm.run_seed(5, order).digest for order in (*ORDERS, *ORDERS)]
    assert digests[:2] == digests[2:]
    assert digests[0] != digests[1]
