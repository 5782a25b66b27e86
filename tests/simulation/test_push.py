"""Gossip learning in a small world: what it sends, merges and takes over, and that it waits for nobody."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from gossip.protocols.base import Context, Part
from gossip.protocols.push.ages import AGE_MAX
from gossip.protocols.push.arrivals import Arrivals
from gossip.protocols.push.catching_up import Beginning, find_beginning
from gossip.protocols.push.inbox import Inbox, ReceivedModel
from gossip.protocols.push.messages import PushMessage
from gossip.protocols.push.protocol import Push
from gossip.protocols.push.settings import PushSettings
from gossip.protocols.push.tokens import TokenAccount
from gossip.protocols.push.variant import Variant
from gossip.wire.messages import INTEGER_MAX
from tests.laws import examples
from tests.simulation import push_swarm
from tests.simulation.lone_peer import LonePeer
from tests.simulation.world import Ctx, Links, World

ROUNDS = 20


def full(peers: int) -> list[dict[str, float]]:
    names = [f"p{i:03d}" for i in range(peers)]
    return [{other: 1 / peers for other in names if other != name} for name in names]


def world(peers: int = 4, *, rounds: int = ROUNDS, links: Links | None = None, **settings: Any) -> World:
    """Peers of a full graph; a local update adds one, so that a model tells how often it was trained."""
    rows = full(peers)
    options = {name: settings.pop(name) for name in ("train", "train_s", "seed") if name in settings}
    chosen = PushSettings(**settings)
    return World(
        lambda round: rows,
        lambda name, round: Push.resume(chosen, rounds=rounds, model=0.0, state={"round": round}),
        peers,
        links=links,
        **{"train": lambda name, model, round: model + 1, "train_s": lambda name, round: 0.01, **options},
    )


def protocol(run: World, index: int) -> Push:
    found = run.peers[run.names[index]].protocol
    assert isinstance(found, Push)
    return found


@pytest.mark.parametrize("order", ["update-then-merge", "merge-then-update"])
@pytest.mark.parametrize("merge_when", ["wake-up", "received", "full"])
@pytest.mark.parametrize("fanout", [0, 1, 2])
def test_everybody_trains_so_often_as_asked_merges_and_ends(order, merge_when, fanout):
    run = world(order=order, merge_when=merge_when, fanout=fanout)
    run.start()
    run.run()
    for peer in run.peers.values():
        assert [done.round for done in peer.completed] == list(range(1, ROUNDS + 1))
        assert peer.finished is not None
        assert not peer.protocol.needed()
        assert sum(done.heard for done in peer.completed) > 0
    spread = run.final()
    assert spread.max() - spread.min() < ROUNDS / 2


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_first_updates_fall_into_the_part_of_a_period_that_is_asked_for(spread):
    began: dict[str, float] = {}

    def train_s(name: str, round: int) -> float:
        began.setdefault(name, run.now)
        return 0.01

    run = world(20, start_spread=spread, period_s=10.0, train_s=train_s)
    run.start()
    run.run()
    first, last = min(began.values()), max(began.values())
    assert last <= 10.0 * spread
    assert last - first >= 5.0 * spread


def test_each_own_update_is_pushed_once_to_as_many_as_asked():
    for fanout, copies in ((1, 1), (2, 2), (0, 4)):
        run = world(5, fanout=fanout, jitter=0.0)
        run.start()
        run.run()
        for index in range(5):
            status = protocol(run, index).status()
            assert status["missed_wake_ups"] == 0
        assert 5 * ROUNDS * copies * 0.9 <= run.sent["push"] <= 5 * (ROUNDS + 1) * copies


def test_a_peer_that_hangs_or_is_dead_holds_nobody_up():
    for merge_when in ("wake-up", "received", "full"):
        run = world(
            fanout=0, merge_when=merge_when, train_s=lambda name, round: 1e9 if name == "p003" else 0.01
        )
        run.at(5.0, lambda run=run: run.crash("p002"))
        run.start()
        run.run(until=3 * ROUNDS)
        for name in ("p000", "p001"):
            assert run.peers[name].finished is not None
            assert run.peers[name].finished < 1.3 * ROUNDS
            late = [merge for merge in run.merges if merge[0] == name and merge[1] > ROUNDS / 2]
            assert len(late) >= ROUNDS / 2 / 3 - 1


def test_with_full_buffers_a_merge_waits_for_as_many_models_as_there_are_neighbours():
    run = world(5, merge_when="full", fanout=0, weighting="uniform", self_weight=0.5, jitter=0.0)
    run.start()
    run.run()
    early = [merge for merge in run.merges if 0 < merge[1] < ROUNDS - 1]
    assert early
    for _, _, own_weight, received in early:
        assert own_weight == 0.5
        assert len(received) == 4
        assert all(each.weight == pytest.approx(0.125) for each in received)


def test_equal_models_of_equal_ages_are_averaged_alike_and_none_twice():
    run = world(fanout=0, weighting="age")
    run.start()
    run.run()
    assert run.merges
    for _, _, own_weight, received in run.merges:
        weights = [own_weight, *(each.weight for each in received)]
        assert max(weights) < 0.95


def test_a_late_joiner_takes_over_a_model_and_disturbs_nobody():
    run = world(6, rounds=200, fanout=1, train=lambda name, model, round: model + 1)
    run.peers["p005"].alive = False
    for name in run.names[:5]:
        run.at(0.0, lambda name=name: run._start(name))
    before: list[float] = []

    def join() -> None:
        before.extend(run.peers[name].completed[-1].model for name in run.names[:5])
        run.restart("p005", 0)

    run.at(100.0, join)
    run.run(until=106.0)
    assert run.adopted == 1
    assert run.peers["p005"].completed[-1].model > 0.8 * min(before)
    after = [run.peers[name].completed[-1].model for name in run.names[:5]]
    assert min(after) > min(before)


def _push(run: World, receiver: str, sender: str, age: int, model: float = -1e9) -> None:
    run.peers[receiver].protocol.on_message(
        Ctx(run, receiver), sender, PushMessage(round=99, age=age, model=model)
    )


def test_a_model_far_ahead_is_begun_from_with_two_others_and_the_same_one_twice_is_none():
    run = world(5, fanout=0)
    run.start()
    run.run(until=5.0)
    age = protocol(run, 0).ages[0]
    assert age > 0
    for sender, claim in (("p004", AGE_MAX), ("p004", AGE_MAX), ("p003", AGE_MAX - 1), ("p003", AGE_MAX - 1)):
        _push(run, "p000", sender, claim)
        assert run.adopted == 0
    _push(run, "p000", "p002", AGE_MAX - 2)
    assert run.adopted == 1
    assert protocol(run, 0).ages[0] == AGE_MAX - 1


@pytest.mark.parametrize("memory", [0, 10])
@pytest.mark.parametrize("bad", list(itertools.combinations(range(5), 2)))
def test_whoever_is_far_behind_begins_from_models_of_use_whoever_of_fewer_than_the_witnesses_lies(
    bad, memory
):
    run = world(6, fanout=0, witnesses=3, memory=memory)
    run.start()
    run.run(until=2.05)
    for place in range(5):
        assert run.adopted == 0
        _push(run, "p000", f"p{place + 1:03d}", AGE_MAX - 9 + place, float("nan") if place in bad else 7.0)
    assert run.adopted == 1
    assert protocol(run, 0).variant.model == pytest.approx(7.0), "models that are not finite are left out"
    assert protocol(run, 0).ages[0] == AGE_MAX - 7


class Liar(Push):
    """Trains nothing, and says of a worthless model that it is older than all others."""

    def on_start(self, ctx: Context) -> None:
        ctx.set_timer("lie", 0.4)

    def on_timer(self, ctx: Context, key: str) -> None:
        for peer in ctx.contacts:
            ctx.send(peer, PushMessage(round=1, age=AGE_MAX, model=-1e6))
        ctx.set_timer("lie", 0.4)

    def on_message(self, ctx: Context, sender: str, message: object) -> None:
        pass


@pytest.mark.parametrize("merge_when", ["wake-up", "received", "full"])
@pytest.mark.parametrize("fanout", [0, 1])
def test_a_liar_about_ages_is_heard_like_others_and_makes_nobody_leave_out_the_honest(merge_when, fanout):
    run = world(6, rounds=60, fanout=fanout, merge_when=merge_when)
    run.peers["p005"].protocol = Liar(PushSettings(), rounds=60, model=0.0)
    run.start()
    run.run(until=50.0)
    assert run.adopted == 0
    ages = [protocol(run, index).ages[0] for index in range(5)]
    assert max(ages) - min(ages) < 10
    late = [received for _, round, _, received in run.merges if round > 20]
    assert {each.sender for received in late for each in received} == set(run.names)
    for received in late:
        # An equal share for each and the own model would be one; honest ages differ a little, too.
        shares = {each.sender: each.weight * (len(received) + 1) for each in received}
        assert shares.get("p005", 0.0) < 1.3
    assert run.rejected["behind"] < 0.02 * run.sent["push"]


@pytest.mark.parametrize("merge_when", ["wake-up", "received", "full"])
@pytest.mark.parametrize("fanout", [0, 1])
def test_a_liar_who_is_there_before_the_others_captures_nobody(monkeypatch, merge_when, fanout):
    """For some periods it is the only neighbour that the first peer can reach."""
    begun: list[list[ReceivedModel]] = []

    def found(ahead: list[ReceivedModel], settings: PushSettings, **known: int) -> Beginning | None:
        beginning = find_beginning(ahead, settings, **known)
        begun.extend([beginning.models] if beginning else [])
        return beginning

    monkeypatch.setattr("gossip.protocols.push.variant.find_beginning", found)
    run = world(12, rounds=60, fanout=fanout, merge_when=merge_when)
    liar, first, *late = run.names[11], *run.names[:11]
    run.peers[liar].protocol = Liar(PushSettings(), rounds=60, model=0.0)
    for place, name in enumerate(late):
        run.peers[name].alive = False
        run.at(3.0 + 0.3 * place, lambda name=name: run.restart(name, 0))
    for name in (first, liar):
        run.at(0.0, lambda name=name: run._start(name))
    run.run(until=50.0)
    # Those that come late may begin from what is far ahead: from honest models, mostly.
    assert len(begun) == run.adopted
    assert all(2 * sum(each.sender == liar for each in models) < len(models) for models in begun)
    ages = [protocol(run, index).ages[0] for index in range(11)]
    assert max(ages) <= 50 * 12, "no faster than where what is heard is pushed on at once"
    assert max(ages) - min(ages) < 10
    late_merges = [received for _, round, _, received in run.merges if round > 20]
    assert {each.sender for received in late_merges for each in received} == set(run.names)


def test_where_the_graph_varies_a_liar_who_is_the_only_neighbour_of_a_round_captures_nobody():
    names = [f"p{place:03d}" for place in range(4)]
    chosen = PushSettings(fanout=0)
    run = World(
        lambda round: [{names[place ^ (1 + round % 3)]: 0.5} for place in range(4)],
        lambda name, round: Push.resume(chosen, rounds=60, model=0.0, state={}),
        4,
        train_s=lambda name, round: 0.01,
        contacts=[[other for other in names if other != name] for name in names],
    )
    run.peers["p003"].protocol = Liar(PushSettings(), rounds=60, model=0.0)
    run.start()
    run.run(until=40.0)
    assert run.adopted == 0
    assert max(protocol(run, index).ages[0] for index in range(3)) < 4 * 40


@pytest.mark.parametrize("merge_when", ["wake-up", "received", "full"])
def test_whoever_has_a_single_neighbour_left_follows_it_and_is_heard_in_the_end(merge_when):
    """Its model follows at once; its age, by which others judge it, rises by one a period more than theirs."""
    chosen = PushSettings(fanout=0, merge_when=merge_when)
    rows = full(4)
    run = World(
        lambda round: rows,
        lambda name, round: Push.resume(chosen, rounds=10_000, model=0.0, state={}),
        4,
        train=lambda name, model, round: model,
        train_s=lambda name, round: 0.01,
    )
    ahead = Push.resume(chosen, rounds=10_000, model=100.0, state={"round": 100, "ages": "100"})
    run.peers["p000"].protocol = ahead
    for name in ("p002", "p003"):
        run.peers[name].alive = False
    for name in ("p000", "p001"):
        run.at(0.0, lambda name=name: run._start(name))
    run.run(until=40.0)
    assert run.peers["p001"].completed[-1].model > 80
    assert run.peers["p000"].completed[-1].model == 100
    run.run(until=400.0)
    assert run.adopted == 0
    limit = ahead.variant.limit()
    assert ahead.ages[0] - protocol(run, 1).ages[0] <= limit
    merged = [(name, [each.sender for each in received]) for name, _, _, received in run.merges]
    assert ("p000", ["p001"]) in merged


def test_a_lone_neighbour_that_is_ahead_is_followed_all_the_same():
    """Two behind and one ahead, in a row: nobody vouches for the one, and still its model reaches the others."""
    names = ["p000", "p001", "p002", "p003"]
    rows = [{other: 0.3 for other in names if abs(names.index(other) - place) == 1} for place in range(4)]
    chosen = PushSettings(fanout=0)
    run = World(
        lambda round: rows,
        lambda name, round: Push.resume(chosen, rounds=10_000, model=0.0, state={}),
        4,
        train=lambda name, model, round: model,
        train_s=lambda name, round: 0.01,
    )
    run.peers["p003"].protocol = Push.resume(
        chosen, rounds=10_000, model=100.0, state={"round": 500, "ages": "500"}
    )
    run.start()
    run.run(until=40.0)
    assert all(run.peers[name].completed[-1].model > 80 for name in names)


@pytest.mark.parametrize("merge_when", ["wake-up", "received", "full"])
def test_with_a_memory_a_merge_sees_what_each_neighbour_sent_last(monkeypatch, merge_when):
    newest: dict[tuple[str, str], float] = {}
    counts: list[int] = []
    on_message, merge = Push.on_message, Ctx.merge

    def arrive(self: Push, ctx: Ctx, sender: str, message: Any) -> None:
        if isinstance(message, PushMessage):
            newest[ctx.peer, sender] = message.model
        on_message(self, ctx, sender, message)

    def merged(self: Ctx, own: float, own_weight: float, received: Any, **said: Any) -> float:
        if 30 < said["at"].round < 90:  # nobody is done yet, and pushes the same model on
            counts.append(len(received))
            assert all(each.model == newest[self.peer, each.sender] for each in received)
            before = {
                (each.sender, each.model)
                for name, *_, had in self.world.merges
                for each in had
                if name == self.peer
            }
            assert all(each.again == ((each.sender, each.model) in before) for each in received)
            assert not all(each.again for each in received), "without news nothing is merged"
        return merge(self, own, own_weight, received, **said)

    monkeypatch.setattr(Push, "on_message", arrive)
    monkeypatch.setattr(Ctx, "merge", merged)
    run = world(6, rounds=100, memory=10, merge_when=merge_when)
    run.start()
    run.run(until=95.0)
    assert np.mean(counts) > 4, "of five; one in ten does not push here in ten periods"
    heard = [done.heard for peer in run.peers.values() for done in peer.completed[30:]]
    assert 0.5 < np.mean(heard) < 1.2, "what is remembered was heard before"
    run.run()
    assert [protocol(run, index).status()["remembered"] for index in range(6)] == [0] * 6, (
        "done: all is let go"
    )


def test_what_is_remembered_of_a_liar_is_no_news(monkeypatch):
    told: list[bool] = []

    def react(self: TokenAccount, *, useful: bool, draw: Any) -> int:
        told.append(useful)
        return 0

    monkeypatch.setattr(TokenAccount, "react", react)
    run = world(4, fanout=0, memory=10, merge_when="received")
    run.start()
    run.run(until=5.0)
    told.clear()
    age = protocol(run, 0).ages[0]
    _push(run, "p000", "p001", AGE_MAX, 1.0)
    _push(run, "p000", "p002", age - 1, 1.0)
    assert told == [True, False]


def test_a_dead_neighbours_model_is_remembered_as_long_as_asked_and_no_longer():
    run = world(4, rounds=100, fanout=0, memory=3, jitter=0.0)
    run.start()
    run.at(20.5, lambda: run.crash("p003"))
    run.run(until=40.0)
    last = max(round for name, round, _, received in run.merges if "p003" in {r.sender for r in received})
    assert 21 <= last <= 24


@pytest.mark.parametrize("memory", [0, 10])
@pytest.mark.parametrize("lie", [10**6, 1500, 500])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_whoever_is_far_behind_merges_all_models_ahead_and_a_liar_is_never_the_only_one(order, lie, memory):
    """Who says an age between those of honest neighbours would have its model taken, were one of them chosen by age."""
    run = world(6, fanout=0, memory=memory)
    run.start()
    run.run(until=2.05)
    claims = [("p001", 1000, 7.0), ("p002", 2000, 8.0), ("p003", lie, -1e6)]
    for sender, age, model in (claims[place] for place in order):
        assert run.adopted == 0, "two models, and one may lie"
        _push(run, "p000", sender, age, model)
    assert run.adopted == 1
    name, _, own_weight, received = run.merges[-1]
    assert (name, own_weight) == ("p000", 0.0)
    assert [(each.sender, each.model) for each in received] == [
        ("p001", 7.0),
        ("p002", 8.0),
        ("p003", -1e6),
    ]
    assert protocol(run, 0).ages[0] == sorted([1000, 2000, lie])[1]


@pytest.mark.parametrize("merge_when", ["wake-up", "received", "full"])
@pytest.mark.parametrize("fanout", [0, 1])
def test_in_a_ring_a_late_joiner_begins_from_both_neighbours_and_its_own_model(merge_when, fanout):
    names = [f"p{place:03d}" for place in range(6)]
    rows = [{names[(place + hop) % 6]: 0.3 for hop in (1, -1)} for place in range(6)]
    chosen = PushSettings(fanout=fanout, merge_when=merge_when)
    run = World(
        lambda round: rows,
        lambda name, round: Push.resume(chosen, rounds=10_000, model=0.0, state={}),
        6,
        train=lambda name, model, round: model + 1,
        train_s=lambda name, round: 0.01,
    )
    run.peers["p005"].alive = False
    for name in names[:5]:
        run.at(0.0, lambda name=name: run._start(name))
    run.at(200.0, lambda: run.restart("p005", 0))
    run.run(until=230.0)
    # A merge that waits for two models anyway is one of both, where the own one is untrained yet.
    assert run.adopted == (merge_when != "full")
    begun = next(merge for merge in run.merges if merge[0] == "p005" and len(merge[3]) == 2)
    assert (begun[2] > 0) == (merge_when != "full")
    ages = [protocol(run, place).ages[0] for place in range(6)]
    assert max(ages) - min(ages) <= protocol(run, 0).variant.limit(), "it is heard again"
    late = [
        {each.sender for each in received} for name, _, _, received in run.merges[-100:] if name == "p000"
    ]
    assert any("p005" in senders for senders in late)
    models = [run.peers[name].completed[-1].model for name in names]
    assert min(models) > 0.8 * max(models)


def test_whoever_reconnects_all_the_time_is_pushed_to_hardly_more_than_others(monkeypatch):
    to: Counter[str] = Counter()
    transmit = World.transmit

    def counted(self: World, sender: str, receiver: str, message: Any) -> None:
        to[receiver] += message.carries_model
        transmit(self, sender, receiver, message)

    monkeypatch.setattr(World, "transmit", counted)
    run = world(6, rounds=200)

    def flap() -> None:
        for name in run.names[:5]:
            for up in (False, True):
                run.peers[name].protocol.on_peer(Ctx(run, name), "p005", up)
        run.at(run.now + 0.3, flap)

    run.at(0.1, flap)
    run.start()
    run.run(until=150.0)
    others = np.mean([to[name] for name in run.names[:5]])
    # One push in ten periods of each neighbour, beside a fifth of the rest.
    assert to["p005"] < 1.6 * others


def test_models_that_were_never_trained_and_strangers_are_refused():
    run = world()
    run.start()
    run.run(until=0.0)
    _push(run, "p000", "p001", 0)
    _push(run, "p000", "p001", -5)
    run.peers["p000"].protocol.on_message(Ctx(run, "p000"), "x", PushMessage(round=3, age=3, model=0.0))
    assert run.rejected == {"untrained": 2, "not-a-neighbour": 1}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"witnesses": 1},
        {"merge_when": "received"},
        {"parts": 2},
        {"variant": "random-walk"},
        {"variant": "update-merge", "witnesses": 1},
    ],
)
@pytest.mark.parametrize("contacts", [1, 5])
def test_no_claimed_age_makes_an_own_one_that_cannot_travel(contacts, settings):
    """What is sent is checked by the context, as the wire does."""
    ctx = Beside("me", ["me", *(f"n{index}" for index in range(contacts))])
    peer = Push(PushSettings(**settings), rounds=100, model=0.0)
    peer.on_start(ctx)
    parts = settings.get("parts", 1)
    for update in range(1, 12):
        for age in (AGE_MAX, AGE_MAX + 1, INTEGER_MAX):
            for part in range(parts):
                message = PushMessage(round=update, age=age, part=part, parts=parts, model=5.0)
                peer.on_message(ctx, "n0", message)
        peer.on_timer(ctx, "wake-up")
        while ctx.training:
            ctx.end_training(peer)
    assert max(peer.ages) <= AGE_MAX
    assert peer.updates == 11
    assert len(ctx.sent) == 11
    refused = [each for each in ctx.events if getattr(each, "reason", "") == "impossible-age"]
    assert len(refused) == 2 * parts * 11
    # Others take what it sends then.
    other = Push(PushSettings(**settings), rounds=100, model=0.0)
    there = Beside("n0", ["me", "n0"])
    other.on_start(there)
    for _, message in ctx.sent:
        other.on_message(there, "me", message)
    assert not any(getattr(each, "reason", "") == "impossible-age" for each in there.events)


def test_an_age_of_a_checkpoint_that_cannot_travel_is_taken_as_the_oldest_there_is():
    ctx = Beside("me", ["me", "n0"])
    state = {"round": 3, "wake-ups": 3, "ages": f"{INTEGER_MAX + 1},7", "tokens": "0,0"}
    peer = Push.resume(PushSettings(parts=2), rounds=100, model=0.0, state=state)
    assert peer.ages == (AGE_MAX, 7)
    peer.on_start(ctx)
    for _ in range(4):
        peer.on_timer(ctx, "wake-up")
        ctx.end_training(peer)
    assert peer.ages == (AGE_MAX, 11)
    assert len(ctx.sent) == 4


def test_of_a_sender_the_newest_model_counts_though_an_older_one_comes_last():
    run = world(3, fanout=0)
    inbox = Inbox()
    assert inbox.put(ReceivedModel(7, "p001", 5, "newer"))
    assert not inbox.put(ReceivedModel(6, "p001", 4, "older"))
    assert inbox.put(ReceivedModel(8, "p001", 6, "newest"))
    assert [kept.model for kept in inbox.take(remember_above=99)] == ["newest"]
    receiver = run.peers["p000"].protocol
    for round in (9, 8):
        receiver.on_message(Ctx(run, "p000"), "p001", PushMessage(round=round, age=3, model=0.0))
    assert run.rejected["stale"] == 1


def test_an_older_model_is_not_taken_after_a_newer_one_was_merged_but_after_a_new_start_it_is():
    inbox = Inbox()
    assert inbox.put(ReceivedModel(7, "p001", 5, "newer"))
    inbox.take(remember_above=99)
    assert not inbox.put(ReceivedModel(6, "p001", 4, "older"))
    assert inbox.put(ReceivedModel(8, "p001", 5, "pushed again, in answer to news"))
    inbox.begin_anew("p001")
    assert inbox.put(ReceivedModel(2, "p001", 1, "after a restart"))


def test_a_sender_that_comes_back_with_fewer_updates_is_heard_at_once():
    run = world(3, fanout=0)
    ctx, receiver = Ctx(run, "p000"), run.peers["p000"].protocol
    receiver.on_message(ctx, "p001", PushMessage(round=9, age=9, model=0.0))
    receiver.on_peer(ctx, "p001", False)
    receiver.on_peer(ctx, "p001", True)
    receiver.on_message(ctx, "p001", PushMessage(round=2, age=2, model=0.0))
    assert run.rejected["stale"] == 0


class Beside(LonePeer):
    """All contacts are neighbours."""

    def neighbours(self, round: int) -> Mapping[str, float]:
        return dict.fromkeys(self.contacts, 1 / len(self.contacts))

    def graft(self, own: float, source: float, part: Part) -> float:
        return source


class Flood(Push):
    """Pushes the same bad model over and over."""

    every_s = 1.0

    def on_start(self, ctx: Context) -> None:
        ctx.set_timer("flood", self.every_s)

    def on_timer(self, ctx: Context, key: str) -> None:
        for peer in ctx.contacts:
            ctx.send(peer, PushMessage(round=1, age=10**6, model=-1000.0))
        ctx.set_timer("flood", self.every_s)

    def on_message(self, ctx: Context, sender: str, message: object) -> None:
        pass


@pytest.mark.parametrize(
    "settings",
    [
        {"merge_when": "full", "self_weight": 0.5, "weighting": "uniform"},
        {"merge_when": "full", "buffer_rounds": 3},
        {"merge_when": "received"},
        {"merge_when": "wake-up"},
    ],
)
def test_whoever_sends_forty_times_as_often_is_heard_no_more_than_others(settings):
    merges, models, ages = [], [], []
    for every_s in (1.0, 0.025):
        run = world(8, rounds=60, fanout=0, train=lambda name, model, round: 0.5 * model + 0.5, **settings)
        flood = Flood(PushSettings(), rounds=60, model=0.0)
        flood.every_s = every_s
        run.peers["p007"].protocol = flood
        run.start()
        run.run(until=40.0)
        merges.append(len(run.merges))
        late = [done.model for name in run.names[:7] for done in run.peers[name].completed[10:]]
        models.append(np.mean(late))
        ages.append(max(protocol(run, index).ages[0] for index in range(7)))
    assert merges[1] <= 1.1 * merges[0] + 14
    assert models[1] >= 1.6 * models[0], "they are negative"
    assert ages[1] <= 1.2 * ages[0]


@pytest.mark.parametrize("tokens", ["proactive", "simple", "generalised", "randomised"])
@pytest.mark.parametrize("merge_when", ["received", "full"])
@pytest.mark.parametrize("jitter", [0.0, 0.2])
def test_of_honest_pushes_all_but_a_few_count(monkeypatch, tokens, merge_when, jitter):
    counted: list[bool] = []
    original = Arrivals.came

    def came(self: Arrivals, sender: str, wake_ups: int) -> bool:
        counted.append(original(self, sender, wake_ups))
        return counted[-1]

    monkeypatch.setattr(Arrivals, "came", came)
    run = world(
        6,
        rounds=70,
        fanout=0,
        tokens=tokens,
        merge_when=merge_when,
        jitter=jitter,
        links=Links(delay_s=lambda rng: rng.exponential(0.2)),
    )
    run.start()
    run.run()
    assert len(counted) > 700
    assert np.mean(counted) > 0.99


def test_a_restart_goes_on_with_ages_and_tokens():
    run = world(tokens="simple", token_capacity=4)
    run.start()
    run.run(until=10.0)
    saved = protocol(run, 0).snapshot()
    again = Push.resume(
        PushSettings(tokens="simple", token_capacity=4), rounds=ROUNDS, model=1.0, state=saved
    )
    assert again.snapshot() == saved
    assert saved["round"] == run.peers["p000"].completed[-1].round
    assert int(saved["ages"]) >= int(saved["round"])


@pytest.mark.parametrize("seed", range(10))
def test_with_loss_duplicates_and_reordering_everybody_ends(seed):
    rng = np.random.default_rng(seed)
    run = world(
        int(rng.integers(2, 9)),
        links=Links(delay_s=lambda rng: rng.exponential(1.0), loss=0.3, duplication=0.2, reorder=True),
        fanout=int(rng.integers(0, 3)),
        merge_when=str(rng.choice(["wake-up", "received", "full"])),
        tokens=str(rng.choice(["proactive", "simple", "generalised", "randomised"])),
        train_s=lambda name, round: 0.3 + (name == "p001"),
        seed=seed,
    )
    run.start()
    run.run(until=10.0 * ROUNDS)
    assert all(peer.finished is not None for peer in run.peers.values())
    assert run.final().min() > ROUNDS / 3


# --- seeded runs with all faults ---


@pytest.mark.parametrize("seed", range(examples(1)))
def test_whatever_goes_wrong_nothing_forbidden_happens_and_afterwards_all_finish(seed):
    push_swarm.run(seed)


def hoard(inbox: Inbox, model: ReceivedModel) -> bool:
    """Keep all models of a sender, not the newest."""
    inbox._kept[f"{model.sender} {len(inbox)}"] = model
    return True


def run_seeds() -> None:
    for seed in range(40):
        push_swarm.run(seed)


def test_the_same_seed_gives_the_same_run():
    digests = [push_swarm.run(seed).log.hexdigest() for seed in (3, 3, 4)]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("where", "name", "broken", "complaint"),
    [
        (Push, "_set_alarm", lambda self, ctx: None, "have not finished"),
        (Variant, "_whole", lambda self, ctx, source, part: source, "what was not received"),
        (TokenAccount, "tick", lambda self, draw: setattr(self, "balance", self.balance + 1), "tokens"),
        (Inbox, "put", hoard, "bounded|sender"),
        (Push, "snapshot", lambda self: {"round": 0}, "replay"),
    ],
)
def test_a_broken_peer_is_found_and_the_failure_says_how_to_replay_it(
    monkeypatch, where, name, broken, complaint
):
    monkeypatch.setattr(where, name, broken)
    with pytest.raises(AssertionError, match=complaint) as failure:
        run_seeds()
    assert "replay: python -m tests.simulation.push_swarm --seed" in str(failure.value)
