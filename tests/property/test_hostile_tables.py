"""What a liar, or a neighbour with another peers file, does to a table: nobody else's rows are lost or kept back."""

from __future__ import annotations

import sys
import tracemalloc

import numpy as np
import pytest

from gossip.channels import prototypes
from gossip.channels.prototypes import geometric_median
from gossip.protocols.rounds.carrying import CarryingRounds
from gossip.protocols.settings import RoundsSettings
from gossip.protocols.tables import (
    NEWER_MAX,
    TOLD_MESSAGES_MAX,
    UNSIGNED_MAX,
    WIDTH_MAX,
    Row,
    Shape,
    Table,
    TableMessage,
)
from gossip.wire.messages import register
from tests.known_rows import PEERS, SHAPE, World, heard, row, signature, table
from tests.simulation.lone_peer import LonePeer


def told(made, world, *contacts):
    """Return what contacts are told: (to whom, rows)."""
    world.sent.clear()
    made.tell(world, contacts)
    return [(peer, [Row(*each) for each in message.rows]) for peer, message in world.sent]


def test_rows_of_whom_only_others_know_cost_no_other_row_and_come_once_the_peers_file_is_read_again():
    world, again = World(peers=("ann", "bob", "cid")), World()
    made = table({0: (5, [1, 1, 1])}, world=world)
    rows = [row("dot", 1, 5, [1, 1, 1]), row("cid", 2, 5, [2, 2, 2])]
    theirs = World(peer="bob")
    other = table(world=theirs)
    for each in rows:
        heard(other, theirs, each)
    ((_, first),) = told(other, theirs, "ann")
    heard(made, world, *first)
    assert {each.origin for each in made.rows} == {"ann", "cid"}
    assert world.rejected == ["no-such-row"]
    assert told(other, theirs, "ann") == []
    assert told(made, world, "bob") == [("bob", [made.rows[0]])]

    assert told(made, again, "bob", "cid") == [("bob", []), ("cid", []), ("cid", list(made.rows))]
    assert told(made, again, "bob") == []
    other.heard(theirs, "ann", TableMessage(rows=()))
    ((_, second),) = told(other, theirs, "ann")
    heard(made, again, *second)
    assert {each.origin for each in made.rows} == {"ann", "cid", "dot"}


def test_a_row_that_comes_too_often_costs_no_other_row():
    world, made = World(), table()
    often = [row("bob", 0, 5, [1, 1, 1], version=version) for version in range(1, NEWER_MAX + 3)]
    honest = row("cid", 0, 5, [1, 1, 1])
    heard(made, world, *often, honest)
    assert made.rows == (often[NEWER_MAX - 1], honest)
    assert world.rejected == ["too-often"]


def test_few_false_signatures_are_looked_at():
    world, made = World(), table()
    forged = [
        row(origin, label, 5, [1, 1, 1])._replace(signature=b"no")
        for label in range(SHAPE.classes)
        for origin in PEERS[1:]
        for _ in range(NEWER_MAX)
    ]
    honest = row("cid", 0, 5, [1, 1, 1])
    heard(made, world, *forged, honest)
    assert world.verified == UNSIGNED_MAX
    assert (made.rows, world.rejected) == ((), ["not-signed", "too-often"])
    made.heard(world, "dot", TableMessage(rows=(honest,)))
    assert made.rows == (honest,), "another contact has its own account"
    made.tell(world, [])
    newer = row("cid", 0, 5, [1, 1, 1], version=2)
    heard(made, world, newer)
    assert made.rows == (newer,)


def test_a_liar_whose_rows_change_all_the_time_keeps_nobody_elses_back():
    shape = Shape(run="run", classes=100, width=WIDTH_MAX)
    world = World()
    made = Table(shape, lambda peer: {}, {})
    made.begin(world)
    sums, at = np.zeros(WIDTH_MAX), 0
    tells = -(-shape.classes // (3 * TOLD_MESSAGES_MAX))  # for all rows, three of which are a message
    for version in (1, 2):
        honest = row("cid", 99, 5, sums, version=version, shape=shape)
        made.heard(world, "cid", TableMessage(rows=(honest,)))
        sent = []
        for _ in range(tells):
            at += 1
            lies = tuple(row("bob", label, 5, sums, version=at, shape=shape) for label in range(99))
            made.heard(world, "bob", TableMessage(rows=lies))
            sent += [each for _, rows in told(made, world, "dot") for each in rows]
            assert len(world.sent) == TOLD_MESSAGES_MAX
        assert honest in sent
    assert not world.rejected


class Neighbour(LonePeer):
    """One of a full graph, whose signatures are hashes."""

    def neighbours(self, round):
        return {peer: 1 / len(self.peers) for peer in self.contacts}

    def sign(self, statement):
        return signature(self.peer, statement)

    def verify(self, peer, statement, signed):
        return signed == signature(peer, statement)


@pytest.mark.parametrize("every", [1, 10])
def test_who_comes_back_after_the_last_round_is_told_what_it_has_lost(every):
    register(TableMessage)
    own = {0: (5, np.ones(3, dtype="<f4").tobytes())}
    ctx = Neighbour("ann", ("ann", "bob", "cid", "dot"))
    ctx.contacts = ("bob", "cid")
    rounds = CarryingRounds(RoundsSettings(gossip_steps=0), rounds=2, model=0.0)
    rounds.carry(Table(SHAPE, lambda peer: own, {}), every=every)
    rounds.on_start(ctx)
    heard_of = row("cid", 1, 5, [1, 1, 1])
    rounds.on_message(ctx, "cid", TableMessage(rows=(heard_of,)))

    def comes_back():
        ctx.sent.clear()
        rounds.on_peer(ctx, "bob", False)
        rounds.on_peer(ctx, "bob", True)
        return [(peer, message.kind) for peer, message in ctx.sent]

    assert ("bob", "prototypes") not in comes_back()  # the end of a round will do
    for _ in range(2):
        ctx.end_training(rounds)
    assert ctx.finished is not None
    assert {peer for peer, _ in ctx.take(TableMessage)} == {"bob", "cid"}
    # Before it hears that we are finished, and need not wait for us.
    assert comes_back() == [("bob", "prototypes"), ("bob", "finished")]
    ((_, message),) = ctx.take(TableMessage)
    assert [each[0] for each in message.rows] == ["ann", "cid"]
    rounds.on_peer(ctx, "dot", True)
    assert ctx.sent == [("bob", ctx.sent[0][1])], "a peer that is no contact is told nothing"


def test_rows_of_whoever_is_no_contact_are_not_taken_and_what_is_known_is_told():
    register(TableMessage)
    ctx = Neighbour("ann", PEERS)
    ctx.contacts = ("bob", "cid")
    rounds = CarryingRounds(RoundsSettings(gossip_steps=0), rounds=2, model=0.0)
    rounds.carry(Table(SHAPE, lambda peer: {}, {}), every=1)
    rounds.on_start(ctx)
    said = TableMessage(rows=(row("cid", 1, 5, [1, 1, 1]),))
    rounds.on_message(ctx, "dot", said)
    assert rounds.status()["table_rows"] == 0
    rounds.on_message(ctx, "bob", said)
    assert rounds.status()["table_rows"] == 1


def test_what_a_contact_has_said_itself_is_not_told_to_it():
    world, made = World(), table()
    said = row("cid", 1, 5, [1, 1, 1])
    made.heard(world, "cid", TableMessage(rows=(said,)))
    heard(made, world, said)
    assert told(made, world, "bob", "cid", "dot") == [("dot", [said])]
    newer = row("cid", 1, 6, [2, 2, 2], version=2)
    made.heard(world, "cid", TableMessage(rows=(newer,)))
    heard(made, world, said)  # bob has still the older one
    assert told(made, world, "bob", "cid") == [("bob", [newer])]


def test_own_rows_that_somebody_made_up_are_none():
    world, made = World(), table({0: (5, [1, 1, 1])})
    before = made.rows
    heard(made, world, row("ann", 0, 9, [9, 9, 9], version=6)._replace(signature=signature("bob", b"")))
    assert (made.rows, world.rejected) == (before, ["not-signed"])


def test_the_geometric_median_of_many_origins_takes_the_memory_of_a_few_tables():
    points = np.random.default_rng(0).normal(size=(300, 500))
    tracemalloc.start()
    geometric_median(points, np.ones(len(points)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * points.nbytes


def test_lengths_that_are_remembered_take_bounded_memory():
    kept = prototypes._length.cache_info().maxsize
    assert kept is not None
    assert kept * sys.getsizeof(b"\0" * 4 * WIDTH_MAX) < 2**27
