"""A view is an element of a join semilattice, and its news are what the reader lacks."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from gossip.protocols.modest import view as views
from gossip.protocols.modest.messages import NewestMessage
from gossip.protocols.modest.view import NEVER, Entry, View, join
from gossip.wire.documents import SMALL_BYTES_MAX, DocumentWriter, Envelope
from gossip.wire.messages import type_of
from gossip.wire.tensors import TensorSpec
from tests.strategies import STRANGER_PEERS, VIEW_PEERS, view_entries

HEADS = DocumentWriter(Envelope(run_id="r" * 32, space_id="s" * 32, sender="peer-00000"))
SPECS = (TensorSpec("float32", (50_000,)),)


def view_of(*parts: Iterable[Entry]) -> View:
    view = View(VIEW_PEERS)
    for part in parts:
        view.merge(part)
    return view


def state(view: View, peers: Iterable[str] = VIEW_PEERS + STRANGER_PEERS) -> dict[str, Entry]:
    return {peer: view[peer] for peer in peers}


@given(view_entries(), view_entries())
def test_merging_commutes(a, b):
    assert state(view_of(a, b)) == state(view_of(b, a))


@given(view_entries(), view_entries(), view_entries())
def test_merging_associates(a, b, c):
    left = view_of(view_of(a, b).entries(), c)
    right = view_of(a, view_of(b, c).entries())
    assert state(left) == state(right)


@given(view_entries(), view_entries())
def test_merging_again_changes_nothing(a, b):
    view = view_of(a, b)
    before = view.version
    view.merge(a)
    view.merge(view.entries())
    assert view.version == before


@given(view_entries(), view_entries())
def test_merging_ones_own_old_snapshot_changes_nothing(a, b):
    view = view_of(a)
    snapshot = view.entries()
    view.merge(b)
    after = (view.version, state(view))
    view.merge(snapshot)
    assert (view.version, state(view)) == after


@given(view_entries(), view_entries())
def test_counter_and_activity_never_fall(a, b):
    view = view_of(a)
    before = state(view)
    view.merge(b)
    for peer, (_, counter, left, active) in state(view).items():
        assert (counter, left) >= before[peer][1:3]
        assert active >= before[peer][3]


@given(view_entries())
def test_every_event_was_issued_and_a_new_peer_is_taken_as_it_came(entries):
    view = view_of(entries)
    for peer in VIEW_PEERS + STRANGER_PEERS:
        heard = [entry for entry in entries if entry[0] == peer]
        if not heard:
            continue
        events = {(counter, left) for _, counter, left, _ in heard}
        initial = {(0, False)} if peer in VIEW_PEERS else set()
        assert view[peer][1:3] == max(events | initial)
        assert view[peer][3] == max(active for *_, active in heard)
        if len(heard) == 1 and peer in STRANGER_PEERS:
            assert view[peer] == heard[0]


@given(view_entries(), view_entries())
def test_the_join_of_entries_is_their_least_upper_bound(a, b):
    for one in a:
        for two in b:
            if one[0] == two[0]:
                joined = join(one, two)
                assert joined[1:3] == max(one[1:3], two[1:3])
                assert joined[3] == max(one[3], two[3])


@given(view_entries(), st.integers(-1, 70))
def test_touching_never_lowers(entries, round):
    view = view_of(entries)
    before = view["p00"]
    view.touch("p00", round)
    assert view["p00"] == (*before[:3], max(before[3], round))


@given(view_entries(), view_entries())
def test_news_since_a_version_are_all_that_a_reader_of_that_version_lacks(a, b):
    writer = view_of(a)
    first, version = writer.news(0)
    reader = view_of(first)
    writer.merge(b)
    second, _ = writer.news(version)
    reader.merge(second)
    assert state(reader) == state(writer)


@given(view_entries())
def test_news_can_travel(entries):
    news, version = view_of(entries).news(0)
    message = NewestMessage(round=1, expected=0, view=news, version=version, model=0.0)
    registered = type_of(message.kind)
    assert registered is not None
    assert registered.check_body(registered.plain_fields(message))["view"] == news


def test_whoever_lacks_more_than_fits_hears_the_newest_at_once_and_all_after_some_messages():
    names = [f"peer-{i:05d}" for i in range(5_000)]
    writer, reader = View(names), View(names)
    for round, name in enumerate(names, start=1):
        writer.touch(name, round)
    writer.merge([(name, 2**52, True, 2**52) for name in names[:1_000]])  # as long as an entry may be
    version = 0
    for message in range(10):
        writer.touch(names[999], 2**52 + message)  # goes on changing meanwhile
        news, reached = writer.news(version)
        assert reached > version
        assert news[0][0] == names[999]
        newest = NewestMessage(round=1, expected=0, view=news, version=reached, model=0.0)
        assert len(HEADS.head(newest, 1, "float32", SPECS)) <= SMALL_BYTES_MAX
        reader.merge(news)
        version = reached
        if reached == writer.version:
            break
    assert version == writer.version
    assert state(reader, names) == state(writer, names)


def test_who_left_long_ago_is_not_told_of_but_remembered():
    view = view_of([("p00", 3, True, 5), ("p01", 1, False, 5)])
    news, _ = view.news(0, horizon=6)
    assert [entry[0] for entry in news] == ["p01"]
    view.merge([("p00", 2, False, 5)])
    assert view["p00"][1:3] == (3, True)


def test_made_up_names_do_not_fill_the_memory():
    view = View(VIEW_PEERS)
    view.merge((f"stranger-{i}", 1, False, 1) for i in range(3 * views.STRANGERS_MAX))
    assert len(view.entries()) == views.STRANGERS_MAX


@given(view_entries(), st.integers(0, 90), st.integers(1, 70))
def test_candidates_are_the_joined_that_were_active_within_the_window(entries, round, window):
    view = view_of(entries)
    found = view.candidates(round, window=window, me="p03")
    assert "p03" in found
    for peer in VIEW_PEERS:
        if peer != "p03":
            _, _, left, active = view[peer]
            assert (peer in found) == (not left and active >= round - window)


def test_the_window_is_inclusive_and_those_never_heard_of_count_from_before_the_first_round():
    view = view_of([("p00", 0, False, 10), ("p01", 0, False, 9)])
    assert "p00" in view.candidates(30, window=20, me="p07")
    assert "p01" not in view.candidates(30, window=20, me="p07")
    assert view["p05"][3] == NEVER
    assert "p05" in view.candidates(19, window=20, me="p07")
    assert "p05" not in view.candidates(20, window=20, me="p07")


@given(view_entries(), st.integers(0, 30))
def test_activity_that_is_not_believed_is_not_taken_over(entries, limit):
    view = View(VIEW_PEERS)
    view.merge(entries, active_max=limit)
    assert view.newest <= limit
