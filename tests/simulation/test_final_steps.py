"""Laws of final steps: exact where nothing fails, and as good as can be where peers go; nothing else gets in."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.protocols import ModelMessage, Rounds
from gossip.protocols.rounds.final import FinalMessage
from gossip.protocols.settings import RoundsSettings
from tests.simulation.world import Links, Peer, Row, World
from topologies import Topology


def rows_of(topology: Topology, round: int) -> list[Row]:
    return [
        {f"p{j:03d}": weight for j, weight in topology.row(i, round).items()} for i in range(topology.peers)
    ]


def world_of(
    peers: int,
    *,
    trickle: Topology,
    final: Topology | None = None,
    steps: int = 0,
    rounds: int = 4,
    exact: bool = True,
    links: Links | None = None,
    protocol: RoundsSettings | None = None,
    **options: object,
) -> World:
    settings = protocol or RoundsSettings()

    def make(name: str, round: int) -> Rounds:
        made = Rounds(settings, rounds=rounds, model=float(int(name[1:])), start_round=round)
        if steps:
            made.merge_at_the_end(steps, exact=exact)
        return made

    others = [[f"p{j:03d}" for j in range(peers) if j != i] for i in range(peers)]
    world = World(lambda round: rows_of(trickle, round), make, peers, links=links, contacts=others, **options)  # type: ignore[arg-type]
    if final is not None:
        world.final_rows = lambda step: rows_of(final, step)
    return world


def ended(world: World) -> Sequence[float]:
    world.start()
    world.run()
    assert all(peer.finished is not None for peer in world.peers.values() if peer.alive)
    return world.final().tolist()


@given(
    st.integers(2, 24),
    st.integers(1, 3),
    st.integers(0, 2),
    st.floats(0, 1),
    st.booleans(),
    st.sampled_from(["adapt-then-combine", "combine-then-adapt"]),
)
def test_without_faults_all_end_with_the_mean_of_what_was_trained(
    peers: int, degree: int, gossip_steps: int, probability: float, exact: bool, order: str
) -> None:
    order = order if gossip_steps else "adapt-then-combine"
    final = Topology("base", peers, degree=min(degree, peers - 1))
    world = world_of(
        peers,
        trickle=Topology("pairs", peers, probability=probability),
        final=final,
        steps=final.period or 0,
        exact=exact,
        links=Links(delay_s=lambda rng: rng.exponential(0.02)),
        protocol=RoundsSettings(gossip_steps=gossip_steps, order=order),  # type: ignore[arg-type]
        train=lambda name, model, round: model + int(name[1:]) ** 2,
        train_s=lambda name, round: 1.0 + 0.01 * int(name[1:]),
    )
    models = ended(world)
    mean = np.mean([i + 4.0 * i**2 for i in range(peers)])
    assert models == pytest.approx([mean] * peers, rel=1e-9)
    assert not world.rejected
    finals = [peer.completed[-1] for peer in world.peers.values()]
    assert all(done.heard == done.expected for done in finals)
    assert all(done.before is not None for done in finals)
    assert all(done.before is None for peer in world.peers.values() for done in peer.completed[:-1])
    last, usual = gossip_steps + (final.period or 0) - 1, [at for _, at in world.steps if at.round < 3]
    assert all(at.last == (at.step == gossip_steps - 1) and not at.whole for at in usual)
    ends = [at for _, at in world.steps if at.round == 3]
    assert all(
        at.last == (at.step == last) and at.whole == (exact and at.step >= gossip_steps) for at in ends
    )


def test_a_peer_that_is_killed_leaves_the_others_the_mean_of_its_neighbours_as_far_as_it_goes() -> None:
    peers = 20
    final = Topology("base", peers)
    world = world_of(peers, trickle=Topology("pairs", peers, probability=0.3), final=final, steps=9, rounds=2)
    world.at(1.5, lambda: world.crash("p003"))
    world.start()
    world.run()
    living = [peer for name, peer in world.peers.items() if name != "p003"]
    assert all(peer.finished is not None for peer in living)
    models = np.array([peer.completed[-1].model for peer in living])
    before = np.array([peer.completed[-1].before for peer in living])
    assert models.std() < before.std() / 2
    assert models.mean() == pytest.approx(before.mean(), abs=before.std() / 2)


def test_a_peer_that_comes_back_in_the_final_steps_does_the_last_round_again() -> None:
    peers = 6
    final = Topology("base", peers)
    world = world_of(
        peers,
        trickle=Topology("pairs", peers),
        final=final,
        steps=final.period or 0,
        rounds=3,
        links=Links(delay_s=lambda rng: 0.4),
    )
    # Training takes a second, a step 0.4: the others are in their final steps.
    world.at(2 * 1.4 + 1.0 + 0.6, lambda: world.crash("p002"))
    world.at(2 * 1.4 + 1.0 + 0.7, lambda: world.restart("p002", 2))
    world.start()
    world.run()
    assert all(peer.finished is not None for peer in world.peers.values())
    again = world.peers["p002"].completed
    assert [done.round for done in again].count(3) == 1


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("kind", [FinalMessage, ModelMessage])
def test_no_message_of_a_step_that_there_is_not_gets_in(kind: type[ModelMessage], exact: bool) -> None:
    final = Topology("base", 6)
    world = world_of(6, trickle=Topology("ring", 6), final=final, steps=2, exact=exact, rounds=5)
    for round, step, sender in itertools.product([-9, *range(-1, 12)], [*range(-1, 5), 63], range(1, 6)):
        world.rejected.clear()
        world.peers["p000"] = Peer(world.make("p000", 0))
        world._start("p000")
        world._deliver(f"p{sender:03d}", "p000", 0, kind(round=round, step=step, model=1.0))
        last = round == 4 and step in (1, 2) and sender in final.row(0, step - 1)
        fits = last and (kind is FinalMessage) == exact
        if kind is ModelMessage:
            fits = fits or (step == 0 and 0 <= round < 5 and (sender in (1, 5) or round > 4))
            fits = fits or (step == 0 and round == 5)
        assert (not world.rejected) == fits, (round, step, sender)


@pytest.mark.parametrize("exact", [True, False])
def test_a_model_of_the_other_kind_is_not_what_a_final_step_waits_for(exact: bool) -> None:
    final, other = Topology("base", 6), ModelMessage if exact else FinalMessage
    world = world_of(
        6,
        trickle=Topology("pairs", 6),
        final=final,
        steps=final.period or 0,
        exact=exact,
        rounds=1,
        links=Links(delay_s=lambda rng: 0.4),
    )
    tag = {"round": 0, "step": 1}  # Training takes a second, and a step 0.4.
    (sender,) = final.row(0, 0)
    world.at(1.5, lambda: world._deliver(f"p{sender:03d}", "p000", 0, other(**tag, model=1e9)))
    models = ended(world)
    assert world.rejected == {"invalid-tag": 1}
    assert max(models) < 10


def test_rows_of_final_steps_are_those_of_the_peers_file_that_was_read_last() -> None:
    before, after = Topology("base", 6), Topology("full", 6)
    world = world_of(6, trickle=Topology("pairs", 6), final=before, steps=2, rounds=2)
    world._start("p000")
    step, far = (
        {"round": 1, "step": 1, "model": 1.0},
        next(j for j in range(1, 6) if j not in before.row(0, 0)),
    )
    world._deliver(f"p{far:03d}", "p000", 0, FinalMessage(**step))
    assert world.rejected == {"not-a-neighbour": 1}
    world.final_rows = lambda step: rows_of(after, 0)
    world.contacts = [list(each) for each in world.contacts]  # another sequence is another file
    world._deliver(f"p{far:03d}", "p000", 0, FinalMessage(**step))
    assert world.rejected == {"not-a-neighbour": 1}
