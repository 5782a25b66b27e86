"""The protocol `rounds`, driven directly on floats: consensus, and progress under every fault."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.protocols import FinishedMessage, ModelMessage, Rounds, RoundsSettings
from gossip.protocols.rounds.inbox import KEPT_PER_SENDER_MAX
from tests.laws import tried
from tests.simulation.lone_peer import LonePeer
from tests.simulation.world import Ctx, Links, World, model_messages


def metropolis_rows(graph: nx.Graph) -> list[dict[str, float]]:
    degree = dict(graph.degree)
    return [
        {f"p{j:03d}": 1 / (1 + max(degree[i], degree[j])) for j in sorted(graph[i])} for i in sorted(graph)
    ]


def matrix(rows: list[dict[str, float]]) -> np.ndarray:
    weights = np.zeros((len(rows), len(rows)))
    for i, row in enumerate(rows):
        for name, weight in row.items():
            weights[i, int(name[1:])] = weight
        weights[i, i] = 1 - weights[i].sum()
    return weights


@st.composite
def connected_graphs(draw: st.DrawFn, peers_max: int = 10) -> nx.Graph:
    peers = draw(st.integers(2, peers_max))
    graph = nx.Graph()
    graph.add_nodes_from(range(peers))
    for node in range(1, peers):
        graph.add_edge(node, draw(st.integers(0, node - 1)))
    extra = draw(st.lists(st.tuples(st.integers(0, peers - 1), st.integers(0, peers - 1)), max_size=peers))
    graph.add_edges_from((a, b) for a, b in extra if a != b)
    return graph


def world_of(
    graph: nx.Graph,
    start: np.ndarray,
    *,
    rounds: int,
    gossip_steps: int = 1,
    links: Links | None = None,
    seed: int = 0,
    **options: object,
) -> World:
    rows = metropolis_rows(graph)
    config = RoundsSettings(gossip_steps=gossip_steps)
    worlds: list[World] = []

    def make(name: str, round: int) -> Rounds:
        state: dict[str, float] = {"round": round}
        for world in worlds:
            # It begins again: the checkpoint says how fast it was, and the world how long ago that is.
            old = world.peers[name]
            both = zip(old.completed, old.completed_at, strict=False)
            saved_s = [at_s for done, at_s in both if done.round <= round]
            state = {**old.protocol.snapshot(), **state, "away_s": world.now - max(saved_s, default=0.0)}
        return Rounds.resume(config, rounds=rounds, model=float(start[int(name[1:])]), state=state)

    worlds.append(World(lambda round: rows, make, len(rows), links=links, seed=seed, **options))  # type: ignore[arg-type]
    return worlds[0]


@given(connected_graphs(), st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**16))
def test_without_faults_q_steps_for_t_rounds_are_the_matrix_power(graph, gossip_steps, rounds, seed):
    start = np.random.default_rng(seed).normal(size=len(graph))
    # No later than waiting for those who are later than most can be paid for.
    links = Links(delay_s=lambda rng: rng.exponential(0.05))
    world = world_of(graph, start, rounds=rounds, gossip_steps=gossip_steps, links=links, seed=seed)
    world.start()
    world.run()
    expected = np.linalg.matrix_power(matrix(metropolis_rows(graph)), gossip_steps * rounds) @ start
    np.testing.assert_allclose(world.final(), expected, atol=1e-12)
    assert not world.rejected
    assert model_messages(world) == 2 * graph.number_of_edges() * gossip_steps * rounds
    assert all(not peer.protocol.needed() for peer in world.peers.values())


@given(connected_graphs(), st.integers(0, 2**16))
@tried(0.5)
def test_peers_that_start_at_different_times_still_compute_the_same(graph, seed):
    rng = np.random.default_rng(seed)
    start = rng.normal(size=len(graph))
    world = world_of(graph, start, rounds=3, gossip_steps=2)
    world.start({name: float(rng.uniform(0, RoundsSettings().deadline_floor_s)) for name in world.names})
    world.run()
    expected = np.linalg.matrix_power(matrix(metropolis_rows(graph)), 6) @ start
    np.testing.assert_allclose(world.final(), expected, atol=1e-12)
    assert not world.rejected


@given(connected_graphs(), st.integers(1, 3), st.floats(0, 0.6), st.booleans(), st.integers(0, 2**16))
def test_under_loss_duplication_and_reordering_all_finish_within_the_convex_hull(
    graph, gossip_steps, loss, reorder, seed
):
    start = np.random.default_rng(seed).normal(size=len(graph))
    links = Links(delay_s=lambda rng: rng.exponential(1.0), loss=loss, duplication=0.2, reorder=reorder)
    world = world_of(graph, start, rounds=8, gossip_steps=gossip_steps, links=links, seed=seed)
    world.start()
    world.run()
    assert all(peer.finished is not None for peer in world.peers.values())
    final = world.final()
    assert final.min() >= start.min() - 1e-9
    assert final.max() <= start.max() + 1e-9
    for peer in world.peers.values():
        assert all(len(known.kept) <= KEPT_PER_SENDER_MAX for known in peer.protocol._near.senders.values())


@given(connected_graphs(), st.integers(0, 2**16))
@tried(0.5)
def test_the_weight_of_a_dead_neighbour_goes_to_the_own_model_and_the_mean_is_kept(graph, seed):
    rng = np.random.default_rng(seed)
    start = rng.normal(size=len(graph))
    world = world_of(graph, start, rounds=4, gossip_steps=2)
    dead = int(rng.integers(len(graph)))
    world.peers[f"p{dead:03d}"].alive = False
    world.start({f"p{dead:03d}": 1e9})
    world.run(until=1e8)
    alive = [i for i in range(len(graph)) if i != dead]
    reduced = matrix(metropolis_rows(graph))[np.ix_(alive, alive)]
    reduced[np.diag_indices(len(alive))] += 1 - reduced.sum(axis=1)
    np.testing.assert_allclose(world.final(), np.linalg.matrix_power(reduced, 8) @ start[alive], atol=1e-12)
    np.testing.assert_allclose(world.final().mean(), start[alive].mean(), atol=1e-12)
    ends = [peer.finished for peer in world.peers.values() if peer.finished is not None]
    assert max(ends) < 20, "nobody waits for a peer that is known to be down"


def test_a_neighbour_that_hangs_costs_one_deadline_and_not_one_a_step():
    graph = nx.cycle_graph(4)
    world = world_of(graph, np.arange(4.0), rounds=30, gossip_steps=2)
    hung = world.peers["p000"]
    world.start()
    world.run(until=10.0)
    hung.life += 1  # stops reading and training, while its links stay up
    hung.timers.clear()
    world.run()
    for name in ("p001", "p002", "p003"):
        peer = world.peers[name]
        assert peer.finished is not None
        gaps = np.diff(peer.completed_at)
        floor_s = RoundsSettings().deadline_floor_s
        assert sum(gap > floor_s for gap in gaps) <= 1
        assert max(gaps) <= floor_s + 1.5


@pytest.mark.parametrize("graph", [nx.complete_graph(4), nx.cycle_graph(6)])
def test_the_data_of_a_machine_twice_as_slow_reach_the_others_and_do_not_hold_them_up(graph):
    rounds, slow = 100, "p000"

    def train(name: str, model: float, round: int) -> float:
        return 1.0 if name == slow else model

    world = world_of(
        graph,
        np.zeros(len(graph)),
        rounds=rounds,
        train=train,
        train_s=lambda name, round: 2.0 if name == slow else 1.0,
    )
    world.start()
    world.run()
    for neighbour in (f"p{j:03d}" for j in graph[0]):
        merged = [
            contribution.sender
            for name, _, _, received in world.merges
            for contribution in received
            if name == neighbour
        ]
        assert merged.count(slow) >= rounds / 6
    # All of them learn what it alone has: without it they would stay at zero.
    assert world.final().min() > 0.6
    assert max(peer.finished for peer in world.peers.values()) < 1.2 * rounds * 1.01


def test_a_restarted_peer_that_is_far_behind_adopts_and_finishes_with_the_others():
    graph = nx.cycle_graph(5)
    world = world_of(graph, np.arange(5.0), rounds=40, gossip_steps=2)
    world.start()
    world.at(5.5, lambda: world.crash("p002"))
    world.at(20.0, lambda: world.restart("p002", 5))
    world.run()
    assert all(peer.finished is not None for peer in world.peers.values())
    assert world.adopted == 1
    rounds = [done.round for done in world.peers["p002"].completed]
    assert rounds[-1] == 40
    assert len(rounds) > 20, "after adopting it takes part again"
    ends = [peer.finished for peer in world.peers.values()]
    assert max(ends) - min(ends) < 2.0
    assert np.ptp(world.final()) < 0.05


def test_a_peer_restarted_after_the_others_have_finished_is_answered():
    graph = nx.cycle_graph(4)
    world = world_of(graph, np.arange(4.0), rounds=10, gossip_steps=2)
    world.start()
    world.at(3.5, lambda: world.crash("p001"))
    world.at(100.0, lambda: world.restart("p001", 3))
    world.run()
    assert world.peers["p001"].completed[-1].round == 10
    assert world.peers["p001"].finished < 105
    np.testing.assert_allclose(world.final()[1], world.final()[[0, 2]].mean(), atol=0.2)
    assert world.adopted == 1


def test_a_peer_one_round_behind_finished_neighbours_still_merges_their_models():
    graph = nx.cycle_graph(4)
    world = world_of(graph, np.array([0.0, 8.0, 0.0, 0.0]), rounds=4)
    world.start()
    world.at(3.2, lambda: world.crash("p001"))
    world.at(50.0, lambda: world.restart("p001", 3))
    world.run()
    last = world.peers["p001"].completed[-1]
    assert (last.round, last.heard, world.adopted) == (4, 2, 0)
    assert world.peers["p001"].finished < 60


def test_a_liar_that_leaves_again_has_no_voice_and_moves_nobody():
    graph = nx.complete_graph(4)
    world = world_of(graph, np.zeros(4), rounds=5000)
    world.start()
    lie = ModelMessage(round=4999, step=0, model=1e6)
    for victim in ("p000", "p001", "p002"):
        world.at(0.5, lambda victim=victim: world._deliver("p003", victim, 0, lie))
    world.at(0.6, lambda: world.crash("p003"))
    world.run(until=20.0)
    assert world.adopted == 0
    assert {peer.completed[-1].model for name, peer in world.peers.items() if name != "p003"} == {0.0}


def test_in_a_graph_that_varies_peers_ahead_in_ordinary_operation_are_not_followed():
    # Six peers, one partner at a time; two of them rest in every third round and get ahead.
    pairs = [[(0, 1), (2, 3), (4, 5)], [(0, 2), (1, 4)], [(3, 5), (0, 4)], [(1, 3)], [(2, 5)]]

    def rows(round: int) -> list[dict[str, float]]:
        graph = nx.Graph()
        graph.add_nodes_from(range(6))
        graph.add_edges_from(pairs[round % len(pairs)])
        return metropolis_rows(graph)

    config = RoundsSettings()
    world = World(
        rows,
        lambda name, round: Rounds(config, rounds=40, model=float(name[1:]), start_round=round),
        6,
        contacts=[[f"p{j:03d}" for j in range(6) if j != i] for i in range(6)],
        train_s=lambda name, round: 0.2 + int(name[1:]) * 0.5,
    )
    world.start()
    world.run()
    assert world.adopted == 0
    assert all(done.heard == done.expected for peer in world.peers.values() for done in peer.completed)
    expected = np.arange(6.0)
    for round in range(40):
        expected = matrix(rows(round)) @ expected
    np.testing.assert_allclose(world.final(), expected, atol=1e-12)


def test_peers_added_while_running_are_contacts_from_then_on():
    world = world_of(nx.path_graph(3), np.zeros(3), rounds=5)
    protocol, ctx = world.peers["p000"].protocol, Ctx(world, "p000")
    protocol.on_start(ctx)
    protocol.on_message(ctx, "p002", FinishedMessage(round=5))
    world.contacts = [["p001", "p002"], *world.contacts[1:]]
    protocol.on_message(ctx, "p002", FinishedMessage(round=5))
    assert protocol.needed(), "one of them has not said so"
    protocol.on_message(ctx, "p001", FinishedMessage(round=5))
    assert not protocol.needed()


@given(st.integers(-(2**53), 2**53), st.integers(-(2**53), 2**53), st.sampled_from(["p000", "p002", "zzz"]))
def test_senseless_tags_and_senders_are_counted_and_change_nothing(round, step, sender):
    graph = nx.path_graph(3)
    world = world_of(graph, np.zeros(3), rounds=5, gossip_steps=2)
    protocol = world.peers["p001"].protocol
    ctx = Ctx(world, "p001")
    protocol.on_start(ctx)
    protocol.on_message(ctx, sender, ModelMessage(round=round, step=step, model=1.0))
    protocol.on_message(ctx, sender, FinishedMessage(round=round))
    legal = sender != "zzz" and ((0 <= round < 5 and 0 <= step < 2) or (round, step) == (5, 0))
    assert sum(world.rejected.values()) == (0 if legal else 1)


@pytest.mark.parametrize("peers", [1, 2])
def test_the_smallest_runs_end(peers):
    graph = nx.complete_graph(peers)
    world = world_of(graph, np.arange(float(peers)), rounds=3)
    world.start()
    world.run()
    assert all(peer.completed[-1].round == 3 for peer in world.peers.values())


def test_zero_gossip_steps_never_exchange_a_model():
    world = world_of(nx.complete_graph(3), np.arange(3.0), rounds=3, gossip_steps=0)
    world.start()
    world.run()
    assert model_messages(world) == 0
    np.testing.assert_array_equal(world.final(), np.arange(3.0))


@given(st.integers(3, 9), st.integers(0, 2**16))
@tried(0.4)
def test_crashes_and_restarts_at_any_time_leave_the_rest_to_finish(peers, seed):
    rng = np.random.default_rng(seed)
    graph = nx.cycle_graph(peers)
    links = Links(delay_s=lambda rng: rng.exponential(0.2))
    world = world_of(graph, rng.normal(size=peers), rounds=20, gossip_steps=2, links=links, seed=seed)
    world.start()
    victims = rng.choice(peers, size=max(1, peers // 3), replace=False)
    for victim in victims:
        name, time_s = f"p{victim:03d}", float(rng.uniform(0.1, 15))
        world.at(time_s, lambda name=name: world.crash(name))
        if rng.random() < 0.7:
            back = time_s + float(rng.uniform(0.1, 30))

            def restart(name: str = name) -> None:
                done = world.peers[name].completed
                world.restart(name, done[-1].round if done else 0)

            world.at(back, restart)
    world.run()
    assert all(peer.finished is not None for peer in world.peers.values() if peer.alive)
    spread = np.ptp(world.final())
    assert np.isfinite(spread)


def test_a_neighbour_that_comes_back_may_have_less_done_than_it_said_and_is_needed_for_again():
    graph = nx.path_graph(2)
    world = world_of(graph, np.arange(2.0), rounds=3)
    world.start()
    world.run()
    protocol = world.peers["p000"].protocol
    assert not protocol.needed()
    # Its last checkpoint is older than its farewell: the process died before it was written.
    world.crash("p001")
    world.peers["p001"].completed.clear()
    world.restart("p001", 1)
    assert protocol.needed()
    world.run()
    assert world.peers["p001"].completed[-1].round == 3
    assert not protocol.needed()


class InARing(LonePeer):
    """A lone peer with two neighbours, that notes of each merge how many were heard and whether it was the last."""

    def __init__(self) -> None:
        super().__init__("b", ["a", "b", "c"])
        self.steps: list[tuple[int, int, int, bool]] = []

    def audience(self, round):
        return tuple(self.neighbours(round))

    def neighbours(self, round):
        return {"a": 1 / 3, "c": 1 / 3}

    def merge(self, own, own_weight, received, *, at):
        self.steps.append((at.round, at.step, len(received), at.last))
        return super().merge(own, own_weight, received, at=at)


def test_a_round_ends_with_a_last_merge_even_where_its_last_step_heard_of_nobody():
    ctx = InARing()
    protocol = Rounds(RoundsSettings(gossip_steps=2), rounds=2, model=0.0)
    protocol.on_start(ctx)
    ctx.end_training(protocol)
    for peer in ("a", "c"):
        protocol.on_message(ctx, peer, ModelMessage(round=0, step=0, model=4.0))
    for peer in ("a", "c"):
        ctx.down.add(peer)
        protocol.on_peer(ctx, peer, False)
    assert ctx.steps == [(0, 0, 2, False), (0, 1, 0, True)]
    assert ctx.completed[0].model == pytest.approx(3.0)
    ctx.end_training(protocol)
    assert (ctx.finished, len(ctx.steps)) == (pytest.approx(4.0), 2), "a round all alone has nothing to merge"
