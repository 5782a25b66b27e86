"""Tables of prototypes: what is left of them hangs on no order, and nobody speaks for another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gossip.channels.prototypes import COUNT_CAP, believed, geometric_median, prototypes_of
from gossip.protocols.tables import (
    COUNT_MIN,
    NEWER_MAX,
    NUMBER_MAX,
    TOLD_MESSAGES_MAX,
    VERSION_MAX,
    WIDTH_MAX,
    Shape,
    Table,
    TableMessage,
    numbers,
)
from gossip.wire.documents import SMALL_BYTES_MAX, DocumentWriter, Envelope
from gossip.wire.messages import register
from tests.known_rows import PEERS, SHAPE, World, heard, row, signature, table
from tests.laws import tried

SUMS = st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3)
ROWS = st.builds(
    row,
    st.sampled_from(PEERS[1:]),
    st.integers(0, 3),
    st.integers(COUNT_MIN, COUNT_CAP),
    SUMS,
    version=st.integers(1, 3),
)


@tried(2)
@given(rows=st.lists(ROWS, max_size=12), data=st.data())
def test_in_whatever_order_and_however_often_rows_come_the_same_are_left(rows, data):
    world = World()
    one, other = table(), table()
    again = st.lists(st.lists(st.sampled_from(rows), max_size=4), max_size=4) if rows else st.just([])
    orders = {
        one: [[each] for each in rows],
        other: [
            *data.draw(again),
            *([rows[place]] for place in data.draw(st.permutations(range(len(rows))))),
        ],
    }
    for made, messages in orders.items():
        for message in messages:
            made.tell(world, [])  # so that none comes too often
            heard(made, world, *message)
    assert one.rows == other.rows
    assert not world.rejected
    for left in one.rows:
        assert left.order == max(each.order for each in rows if each.key == left.key)


@tried(1)
@given(
    data=st.dictionaries(
        st.tuples(st.sampled_from(PEERS[1:]), st.integers(0, 3)),
        st.lists(SUMS, min_size=COUNT_MIN, max_size=9),
        max_size=8,
    ),
    robust=st.booleans(),
)
def test_prototypes_are_the_means_of_all_samples_and_a_new_class_changes_no_other(data, robust):
    rows = [
        row(origin, label, len(samples), np.sum(samples, axis=0)) for (origin, label), samples in data.items()
    ]
    found = prototypes_of(rows, classes=4, width=3, robust=robust)
    for label in range(4):
        together = [each for (_, of), samples in data.items() if of == label for each in samples]
        assert found.known[label] == bool(together)
        if together and not robust:
            np.testing.assert_allclose(found.means[label], np.mean(together, axis=0), rtol=1e-6, atol=1e-4)
        without = prototypes_of([r for r in rows if r.label != label], classes=4, width=3, robust=robust)
        others = np.arange(4) != label
        np.testing.assert_array_equal(without.means[others], found.means[others])
        assert not without.known[label]


CHANGES = [
    {"version": 9},
    {"origin": "dot!"},
    {"label": 4},
    {"label": -1},
    {"samples": COUNT_CAP + 1},
    {"samples": COUNT_MIN},
    {"samples": COUNT_MIN - 1},
    {"samples": -5},
    {"sums": b"\0" * 11},
    {"sums": b""},
    {"sums": np.full(3, 7, dtype="<f4").tobytes()},
    {"signature": b""},
    *({"label": label} for label in range(SHAPE.classes)),
    *({"origin": origin} for origin in PEERS[1:]),
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
@tried(1 / 4)
@given(real=ROWS)
def test_what_an_origin_has_not_signed_changes_nothing(real, change):
    world, made = World(), table()
    heard(made, world, real)
    unsigned = real._replace(version=real.version + 1)
    newer = unsigned._replace(signature=signature(real.origin, SHAPE.statement(unsigned)))
    forged = newer._replace(**change)
    assume(forged != newer)
    heard(made, world, forged)
    assert made.rows == (real,)
    assert len(world.rejected) == 1
    # Whoever passes it on may be honest: what else it brings is taken.
    honest = row("cid", 0, 5, [1, 1, 1], version=9)
    heard(made, world, forged, honest, forged)
    assert set(made.rows) == ({real, honest} if real.key != honest.key else {honest})
    # One message more, with two reasons to refuse it where its second forged row is newer than its honest one.
    assert len(world.rejected) == 2 + (forged.key == honest.key and forged.order > honest.order)


@pytest.mark.parametrize(
    ("label", "samples", "sums", "version"),
    [
        (0, COUNT_MIN - 1, [1, 1, 1], 1),
        (0, 5, [np.nan, 1, 1], 1),
        (0, 5, [np.inf, 1, 1], 1),
        (0, 5, [6 * NUMBER_MAX, 1, 1], 1),
        (0, 5, [1, 1], 1),
        (0, 0, [1, 1, 1], 1),
        (0, 5, [1, 1, 1], 0),
        (0, 5, [1, 1, 1], VERSION_MAX + 1),
        (SHAPE.classes, 5, [1, 1, 1], 1),
        (-1, 5, [1, 1, 1], 1),
    ],
)
def test_what_no_honest_origin_would_say_is_refused_though_it_is_signed(label, samples, sums, version):
    world, made = World(), table()
    said = row("bob", label, samples, sums, version=version)
    heard(made, world, said)
    assert (made.rows, world.rejected) == ((), ["no-such-row"])
    made._rows[said.key] = said
    assert table(state=made.saved()).rows == ()


def test_whose_samples_are_gone_takes_the_row_back_and_that_outlives_a_restart():
    world, made = World(), table()
    heard(made, world, row("bob", 0, 5, [1, 1, 1]), row("cid", 0, 5, [1, 1, 1]))
    before = made.saved()
    gone = row("bob", 0, 0, [], version=2)
    heard(made, world, gone)
    assert made.rows[0] == gone
    assert not world.rejected
    assert table(state=made.saved()).rows == made.rows
    assert table(state=before).rows != made.rows
    fewer = World(peers=("ann", "bob"))
    made.tell(fewer, [])
    assert made.rows == (gone,)
    assert table(state=made.saved()).rows == made.rows


def test_a_contact_that_is_not_there_is_told_when_it_is():
    world, made = World(), table({0: (5, [1, 1, 1])})
    world.is_up = lambda peer: peer == "cid"
    made.tell(world, ("bob", "cid"))
    assert [peer for peer, _ in world.sent] == ["cid"]
    world.is_up = lambda peer: True
    made.tell(world, ("bob", "cid"))
    assert [peer for peer, _ in world.sent] == ["cid", "bob"]


def test_a_row_of_another_run_is_worth_nothing():
    world, made = World(), table()
    heard(made, world, row("bob", 0, 5, [1, 1, 1], shape=Shape(run="other", classes=4, width=3)))
    assert (made.rows, world.rejected) == ((), ["not-signed"])


def test_own_samples_of_a_class_are_told_of_from_the_fifth_on():
    made = table({0: (4, [1, 1, 1]), 1: (5, [1, 1, 1])})
    assert [each.label for each in made.rows] == [1]


def test_what_has_changed_since_a_checkpoint_is_a_new_version_and_the_rest_is_not():
    before = table({0: (5, [1, 1, 1]), 1: (5, [2, 2, 2]), 2: (5, [3, 3, 3])})
    heard(before, World(), row("bob", 3, 6, [4, 4, 4]))
    after = table({0: (5, [1, 1, 1]), 1: (7, [2, 2, 2])}, state=before.saved())
    assert [(each.label, each.origin, each.version, each.samples) for each in after.rows] == [
        (0, "ann", 1, 5),
        (1, "ann", 2, 7),
        (2, "ann", 2, 0),
        (3, "bob", 1, 6),
    ]
    assert table(state=before.saved(), world=World(peers=("ann",))).rows == tuple(
        each for each in table(state=before.saved()).rows if each.origin == "ann"
    )
    elsewhere = Table(Shape(run="other", classes=4, width=3), lambda peer: {}, before.saved())
    assert elsewhere.rows == ()


def test_after_a_lost_checkpoint_the_present_samples_are_said_beyond_what_others_remember():
    world, made = World(), table({0: (5, [1, 1, 1])})
    heard(made, world, row("ann", 0, 9, [9, 9, 9], version=6), row("ann", 1, 9, [9, 9, 9], version=2))
    assert [(each.label, each.version, each.samples) for each in made.rows] == [(0, 7, 5), (1, 3, 0)]
    assert not world.rejected
    for each in made.rows:
        assert world.verify("ann", SHAPE.statement(each), each.signature)


def test_a_contact_is_told_what_it_does_not_have_and_everything_once_it_comes_back():
    world, made = World(), table({0: (5, [1, 1, 1])})
    heard(made, world, row("bob", 1, 5, [2, 2, 2]))

    def told():
        made.tell(world, ["bob", "cid"])
        sent, world.sent = world.sent, []
        return [(peer, [each[1] for each in message.rows]) for peer, message in sent]

    assert told() == [("bob", [0]), ("cid", [0, 1])]
    assert told() == []
    heard(made, world, row("bob", 1, 6, [3, 3, 3], version=2))
    assert told() == [("cid", [1])]
    made.forget_told("bob")
    assert told() == [("bob", [0, 1])]


def test_who_brings_ever_newer_versions_is_refused_until_the_own_table_is_told_again():
    world, made = World(), table()
    versions = [row("bob", 0, 5, [1, 1, 1], version=version) for version in range(1, NEWER_MAX + 3)]
    heard(made, world, *versions)
    assert (made.rows, world.rejected) == ((versions[NEWER_MAX - 1],), ["too-often"])
    made.tell(world, [])
    heard(made, world, versions[-1])
    assert made.rows == (versions[-1],)


def test_rows_of_whoever_is_taken_out_of_the_peers_file_go():
    world, made = World(), table({0: (5, [1, 1, 1])})
    heard(made, world, row("bob", 0, 5, [1, 1, 1]), row("cid", 1, 5, [1, 1, 1]))
    made.tell(World(peers=("ann", "cid")), ["cid"])
    assert [each.origin for each in made.rows] == ["ann", "cid"]


def test_a_large_table_is_told_in_portions_own_samples_first():
    shape = Shape(run="run", classes=100, width=WIDTH_MAX)
    world = World(peer="bob")
    own = {99: (5, b"\0" * (4 * WIDTH_MAX))}
    made = Table(shape, lambda peer: own, {})
    made.begin(world)
    for label in range(90):
        sums = np.zeros(WIDTH_MAX)
        made.heard(world, "cid", TableMessage(rows=(row("ann", label, 5, sums, shape=shape),)))
    sent = []
    for _ in range(3):
        made.tell(world, ["dot"])
        assert len(world.sent) <= TOLD_MESSAGES_MAX
        sent += [each[1] for _, message in world.sent for each in message.rows]
        world.sent.clear()
    assert sent == [99, *range(90)]


@pytest.mark.parametrize(("width", "name", "rows"), [(WIDTH_MAX, 128, 7), (1, 1, 900), (400, 20, 60)])
def test_every_message_fits_into_a_small_document(width, name, rows):
    register(TableMessage)
    origin = "ü" * name
    shape = Shape(run="r" * 16, classes=rows, width=width)
    own = dict.fromkeys(range(rows), (2**40, b"\xff" * (4 * width)))
    made = Table(shape, lambda peer: own, {})
    world = World(peer=origin, peers=(origin,))
    made.begin(world)
    made.tell(world, ["bob"])
    writer = DocumentWriter(Envelope("r" * 16, "s" * 64, origin))
    assert sum(len(message.rows) for _, message in world.sent) == rows
    for _, message in world.sent:
        assert len(writer.small(message, 2**40)) <= SMALL_BYTES_MAX


@tried(1)
@given(
    honest=st.lists(SUMS, min_size=3, max_size=5),
    lie=st.floats(1e3, 1e6),
    claim=st.integers(1000, 2**50),
)
def test_a_minority_moves_the_geometric_median_no_farther_than_the_honest_are_apart(honest, lie, claim):
    rows = [row(f"p{place}", 0, 20, 20 * np.array(each)) for place, each in enumerate(honest)]
    liar = row("z", 0, claim, np.full(3, lie) * claim)
    points = np.array([numbers(each.sums) for each in rows], dtype=np.float64) / 20
    alone = geometric_median(points, np.ones(len(points)))
    found = prototypes_of([*rows, liar], classes=1, width=3, robust=True).means[0]
    # Minsker 2015, lemma 2.1: with a share of less than half elsewhere, C·r with C = 2(1 - α)/(1 - 2α).
    share = 1 / len([*rows, liar])
    radius = max(np.linalg.norm(points - alone, axis=1))
    assert np.linalg.norm(found - alone) <= 2 * (1 - share) / (1 - 2 * share) * radius + 1e-6


def test_the_geometric_median_is_where_it_is_known_to_be():
    corners = np.array([[0.0, 0], [4, 0], [4, 4], [0, 4]])
    np.testing.assert_allclose(geometric_median(corners, np.ones(4)), [2, 2], atol=1e-8)
    heavy = geometric_median(corners, np.array([10.0, 1, 1, 1]))
    np.testing.assert_array_equal(heavy, corners[0])  # more than half of the weight is there


def test_one_origin_weighs_at_most_a_thousand_samples_and_means_that_are_too_long_are_left_out():
    rows = [row("bob", 0, 1000, [1000, 0, 0]), row("cid", 0, 2**40, [3.0 * 2**40, 0, 0])]
    np.testing.assert_allclose(prototypes_of(rows, classes=1, width=3).means, [[2, 0, 0]])
    assert believed(rows, length_max=2.0) == (rows[0],)


def test_the_layer_chooses_the_nearest_prototype_and_never_an_unknown_class():
    rows = [row("bob", 0, 5, [5, 0, 0]), row("cid", 2, 5, [0, 10, 0])]
    weights, biases = prototypes_of(rows, classes=4, width=3).layer()
    x = np.random.default_rng(0).normal(size=(50, 3))
    nearest = np.where(((x - [1, 0, 0]) ** 2).sum(1) <= ((x - [0, 2, 0]) ** 2).sum(1), 0, 2)
    np.testing.assert_array_equal((x @ weights.T + biases).argmax(axis=1), nearest)
