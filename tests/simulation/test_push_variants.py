"""Models that walk: the random-walk and update-merge variants of gossip learning, beside the paper's pseudo-code."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gossip.protocols.base import Contribution, ModelAdopted
from gossip.protocols.push.messages import PushMessage
from gossip.protocols.push.protocol import Push
from gossip.protocols.push.settings import PushSettings
from tests.laws import tried
from tests.simulation import push_swarm
from tests.simulation.lone_peer import LonePeer
from tests.simulation.world import World

WALKS = ("random-walk", "update-merge")
NEIGHBOURS = ("n0", "n1", "n2", "n3")
NO_LIMIT = 2**31


def update(model: float) -> float:
    return 0.5 * model + 3.0


class Beside(LonePeer):
    """All contacts are neighbours; what is trained and what is pushed is written down."""

    def __init__(self) -> None:
        super().__init__("me", ["me", *NEIGHBOURS])
        self.began_from: list[float] = []

    def neighbours(self, round: int) -> Mapping[str, float]:
        return dict.fromkeys(self.contacts, 1 / len(self.contacts))

    def train(self, model: float, *, round: int) -> int:
        ticket = super().train(model, round=round)
        self.began_from.append(model)
        self.training[-1] = (ticket, update(model), round)
        return ticket

    def adopt(self, own: float, received: Sequence[Contribution]) -> float:
        return own if np.isnan(received[0].model) else float(received[0].model)


def begin(variant: str, *, state: Mapping[str, Any] | None = None, **chosen: Any) -> tuple[Beside, Push]:
    """Return a peer whose model is 8.0; ages are believed."""
    ctx = Beside()
    push = PushSettings(variant=variant, **{"witnesses": 1, "age_limit": NO_LIMIT, **chosen})
    peer = Push(push, rounds=1000, model=8.0, state=state)
    peer.on_start(ctx)
    return ctx, peer


def wake_up(ctx: Beside, peer: Push) -> PushMessage:
    """Let it wake up and do all its updates; return what it pushes."""
    peer.on_timer(ctx, "wake-up")
    while ctx.training:
        ctx.end_training(peer)
    ((_, message),) = ctx.take(PushMessage)
    return message


def arrive(ctx: Beside, peer: Push, sender: str, *, age: int, model: float, round: int = 1) -> None:
    peer.on_message(ctx, sender, PushMessage(round=round, age=age, model=model))


class Paper:
    """Algorithms 1 and 2 in a plain loop: createModel for every model that comes, and the freshest is sent."""

    def __init__(self, variant: str, *, by_age: bool) -> None:
        self.variant, self.by_age = variant, by_age
        self.last = self.current = (8.0, 0)

    def merge(self, one: tuple[float, int], other: tuple[float, int]) -> tuple[float, int]:
        (w1, t1), (w2, t2) = one, other
        share = t1 / (t1 + t2) if self.by_age else 0.5
        return share * w1 + (1 - share) * w2, max(t1, t2)

    def update(self, model: tuple[float, int]) -> tuple[float, int]:
        return update(model[0]), model[1] + 1

    def receive(self, m: tuple[float, int]) -> None:
        if self.variant == "random-walk":
            self.current = self.update(m)
        else:
            self.current = self.merge(self.update(m), self.update(self.last))
        self.last = m


periods = st.lists(
    st.lists(
        st.tuples(st.sampled_from(NEIGHBOURS), st.integers(1, 50), st.floats(-100, 100)),
        unique_by=lambda arrival: arrival[0],
        max_size=4,
    ),
    max_size=12,
)
"""What comes between two wake-ups: sender, age and model, in this order."""


@given(st.sampled_from(WALKS), periods, st.booleans())
def test_what_is_pushed_is_what_the_papers_peer_would_have_made_of_what_came(variant, arrivals, by_age):
    ctx, peer = begin(variant, weighting="age" if by_age or variant == "random-walk" else "uniform")
    paper = Paper(variant, by_age=by_age or variant == "random-walk")
    for number, period in enumerate(arrivals):
        for sender, age, model in period:
            arrive(ctx, peer, sender, age=age, model=model, round=number)
            paper.receive((model, age))
        if not period:
            paper.current = paper.update(paper.current)  # ours; the paper's peer would send it once more
        pushed = wake_up(ctx, peer)
        assert (pushed.model, pushed.age) == (pytest.approx(paper.current[0]), paper.current[1])
    assert peer.updates == len(arrivals) == len(ctx.completed)
    assert not ctx.rejected
    assert bool(ctx.merged) == (variant == "update-merge" and any(arrivals))


def test_a_random_walk_goes_on_with_the_latest_model_and_forgets_its_own():
    ctx, peer = begin("random-walk")
    assert wake_up(ctx, peer).model == update(8.0)
    arrive(ctx, peer, "n0", age=4, model=10.0)
    arrive(ctx, peer, "n1", age=2, model=20.0)
    pushed = wake_up(ctx, peer)
    assert (pushed.model, pushed.age) == (update(20.0), 3), "also a younger one"
    assert [done.heard for done in ctx.completed] == [0, 1]
    assert ctx.began_from == [8.0, 20.0]
    assert not ctx.merged


def test_update_merge_trains_the_two_that_came_last_and_merges_them():
    ctx, peer = begin("update-merge", weighting="uniform")
    arrive(ctx, peer, "n0", age=4, model=10.0)
    assert wake_up(ctx, peer).model == (update(10.0) + update(8.0)) / 2, (
        "at first the own model was there before"
    )
    arrive(ctx, peer, "n1", age=5, model=20.0)
    pushed = wake_up(ctx, peer)
    assert (pushed.model, pushed.age) == ((update(20.0) + update(10.0)) / 2, 6)
    assert ctx.began_from == [10.0, 8.0, 20.0, 10.0]
    assert ctx.trained == [0, 0, 1, 1], "both with the samples of one update"
    assert peer.updates == 2


def test_weights_of_an_update_merge_are_the_ages_that_both_have_then():
    ctx, peer = begin("update-merge")
    arrive(ctx, peer, "n0", age=2, model=0.0)
    arrive(ctx, peer, "n1", age=5, model=0.0)
    wake_up(ctx, peer)
    own, own_weight, (received,) = ctx.merged[-1]
    assert own == update(0.0)
    assert (own_weight, received.sender, received.weight) == (
        pytest.approx(3 / 9),
        "n1",
        pytest.approx(6 / 9),
    )


@pytest.mark.parametrize("variant", WALKS)
def test_a_model_that_is_refused_leaves_the_own_one_where_it_is(variant):
    ctx, peer = begin(variant, weighting="age")
    arrive(ctx, peer, "n0", age=4, model=float("nan"))
    assert np.isfinite(wake_up(ctx, peer).model)
    assert np.isfinite(wake_up(ctx, peer).model)


@pytest.mark.parametrize("variant", WALKS)
def test_what_comes_during_an_update_waits_for_the_next_one(variant):
    ctx, peer = begin(variant, weighting="age")
    arrive(ctx, peer, "n0", age=4, model=10.0)
    peer.on_timer(ctx, "wake-up")
    arrive(ctx, peer, "n1", age=4, model=50.0)
    peer.on_timer(ctx, "wake-up")  # still training
    while ctx.training:
        arrive(ctx, peer, "n1", age=4, model=60.0, round=2)
        ctx.end_training(peer)
    assert 50.0 not in ctx.began_from
    assert 60.0 not in ctx.began_from
    assert peer.status()["missed_wake_ups"] == 1
    ctx.take(PushMessage)
    wake_up(ctx, peer)
    assert 60.0 in ctx.began_from
    assert 50.0 not in ctx.began_from


@pytest.mark.parametrize("variant", WALKS)
def test_a_walk_far_behind_is_left_out(variant):
    ctx, peer = begin(variant, state={"round": 40, "ages": "40"}, age_limit=10)
    arrive(ctx, peer, "n0", age=29, model=99.0)
    assert wake_up(ctx, peer).model == update(8.0)
    assert ctx.rejected == ["behind"]
    arrive(ctx, peer, "n0", age=31, model=99.0, round=2)
    wake_up(ctx, peer)
    assert 99.0 in ctx.began_from


def test_of_two_models_that_are_far_apart_update_merge_trains_the_older_alone():
    ctx, peer = begin("update-merge", age_limit=10)
    arrive(ctx, peer, "n0", age=10, model=10.0)  # the own model has age 0
    wake_up(ctx, peer)
    arrive(ctx, peer, "n0", age=21, model=30.0, round=2)
    ctx.began_from.clear()
    assert wake_up(ctx, peer).model == update(30.0)
    assert ctx.began_from == [30.0]


@pytest.mark.parametrize("variant", WALKS)
def test_a_restart_goes_on_from_the_checkpoint_with_its_age(variant):
    ctx, peer = begin(variant)
    for number in range(3):
        arrive(ctx, peer, "n0", age=10 + number, model=10.0 * number, round=number)
        wake_up(ctx, peer)
    saved = peer.snapshot()
    assert saved == {**saved, "round": 3, "ages": "13"}
    arrive(ctx, peer, "n1", age=3, model=0.0, round=7)
    peer.on_timer(ctx, "wake-up")  # what has begun is lost, and counts for nothing
    assert peer.snapshot() == saved
    again, resumed = begin(variant, state=saved)
    assert resumed.snapshot() == saved
    arrive(again, resumed, "n1", age=13, model=2.0)
    pushed = wake_up(again, resumed)
    assert pushed.age == 14
    one, other = update(2.0), update(8.0)  # the checkpoint's model is the last, as at the start
    assert pushed.model == pytest.approx(one if variant == "random-walk" else (one + other) / 2)


# --- many peers ---


def full(peers: int) -> list[dict[str, float]]:
    names = [f"p{i:03d}" for i in range(peers)]
    return [{other: 1 / peers for other in names if other != name} for name in names]


class Paths:
    """Local updates of models that are numbers which stand for the way they came."""

    def __init__(self) -> None:
        self.of: dict[float, tuple[str, ...]] = {0.0: ()}

    def train(self, name: str, model: float, round: int) -> float:
        new = float(len(self.of))
        self.of[new] = (*self.of[model], name)
        return new


def swarm(variant: str, peers: int, *, rounds: int, train: Any, rows: Any = None, **chosen: Any) -> World:
    push = PushSettings(variant=variant, **chosen)
    given_rows = rows or full(peers)
    return World(
        lambda round: given_rows,
        lambda name, round: Push.resume(push, rounds=rounds, model=0.0, state={"round": round}),
        peers,
        train=train,
        train_s=lambda name, round: 0.01,
    )


@pytest.mark.parametrize("fanout", [1, 2])
@pytest.mark.parametrize("tokens", ["proactive", "randomised"])
def test_a_random_walk_walks_along_edges_as_many_updates_as_it_is_old_and_is_never_merged(fanout, tokens):
    names = [f"p{i:03d}" for i in range(8)]
    ring = [{names[(place + hop) % 8]: 0.3 for hop in (1, -1)} for place in range(8)]
    paths, pushed = Paths(), []
    run = swarm(
        "random-walk", 8, rounds=40, train=paths.train, rows=ring, fanout=fanout, tokens=tokens, witnesses=1
    )
    transmit = run.transmit

    def noted(sender: str, receiver: str, message: Any) -> None:
        if isinstance(message, PushMessage):
            pushed.append(message)
        transmit(sender, receiver, message)

    run.transmit = noted  # type: ignore[method-assign]
    run.start()
    run.run()
    assert all(peer.finished is not None for peer in run.peers.values())
    assert not run.merges
    for message in pushed:
        path = [names.index(name) for name in paths.of[message.model]]
        assert len(path) == message.age
        assert all((b - a) % 8 in (0, 1, 7) for a, b in itertools.pairwise(path))
    assert max(len(set(paths.of[message.model])) for message in pushed) >= 6, "they come around"


@pytest.mark.parametrize("variant", WALKS)
def test_everybody_trains_so_often_as_asked_whoever_dies_and_models_come_to_what_all_have_in_common(variant):
    """Each peer draws models to its own target, 0 or 1; those that walk come to the mean of both."""
    run = swarm(
        variant,
        8,
        rounds=120,
        train=lambda name, model, round: 0.95 * model + 0.05 * (int(name[1:]) % 2),
        fanout=1,
    )
    run.at(20.3, lambda: run.crash("p002"))
    run.at(20.3, lambda: run.crash("p003"))
    run.start()
    run.run()
    living = [peer for name, peer in run.peers.items() if name not in ("p002", "p003")]
    assert all(peer.finished is not None for peer in living)
    assert all([done.round for done in peer.completed] == list(range(1, 121)) for peer in living)
    late = [done.model for peer in living for done in peer.completed[-20:]]
    assert np.mean(late) == pytest.approx(0.5, abs=0.1)
    assert np.std(late) < 0.2


@pytest.mark.parametrize("variant", WALKS)
@pytest.mark.parametrize("witnesses", [1, 2])
def test_a_late_joiner_is_as_old_as_the_others_soon_and_disturbs_nobody(variant, witnesses):
    run = swarm(
        variant,
        6,
        rounds=10_000,
        train=lambda name, model, round: model + 1,
        witnesses=witnesses,
    )
    run.peers["p005"].alive = False
    for name in run.names[:5]:
        run.at(0.0, lambda name=name: run._start(name))
    run.at(100.0, lambda: run.restart("p005", 0))
    run.run(until=100.0)
    before = [peer.completed[-1].model for peer in run.peers.values() if peer.completed]
    run.run(until=115.0)
    after = [run.peers[name].completed[-1].model for name in run.names]
    assert min(after) > max(before), "its own is among them"
    ages = [protocol(run, name).ages[0] for name in run.names]
    assert max(ages) - min(ages) <= protocol(run, "p005").variant.limit()
    assert run.adopted >= 1
    assert bool(run.merges) == (variant == "update-merge")


def protocol(run: World, name: str) -> Push:
    found = run.peers[name].protocol
    assert isinstance(found, Push)
    return found


def test_far_behind_a_random_walk_takes_over_the_model_of_the_age_that_is_vouched_for():
    ctx, peer = begin("random-walk", witnesses=2, age_limit=10)
    wake_up(ctx, peer)
    for place, age in enumerate((1000, 2**40, 2000)):
        assert not [event for event in ctx.events if isinstance(event, ModelAdopted)]
        arrive(ctx, peer, NEIGHBOURS[place], age=age, model=float(place))
    (adopted,) = [event for event in ctx.events if isinstance(event, ModelAdopted)]
    assert (adopted.sender, adopted.round) == ("n2", 2000)
    assert (peer.model, peer.ages) == (2.0, (2000,))
    assert not ctx.merged


def test_far_behind_update_merge_begins_from_a_merge_which_is_the_last_model_then_as_at_the_start():
    ctx, peer = begin("update-merge", witnesses=2, age_limit=10, weighting="uniform")
    wake_up(ctx, peer)
    for place in range(3):
        arrive(ctx, peer, NEIGHBOURS[place], age=1000 + place, model=float(place))
    assert (peer.model, peer.ages) == (pytest.approx(1.0), (1001,))
    arrive(ctx, peer, "n3", age=1001, model=9.0)
    ctx.began_from.clear()
    wake_up(ctx, peer)
    assert ctx.began_from == [9.0, pytest.approx(1.0)]


@pytest.mark.parametrize("tokens", ["simple", "randomised"])
@pytest.mark.parametrize("variant", WALKS)
def test_news_is_answered_with_what_became_of_it(variant, tokens):
    ctx, peer = begin(variant, tokens=tokens, token_reach=1, token_capacity=10)
    for _ in range(5):
        peer.on_timer(ctx, "wake-up")
        ctx.end_training(peer)
    assert not ctx.take(PushMessage), "tokens are saved"
    arrive(ctx, peer, "n0", age=20, model=10.0)
    peer.on_timer(ctx, "wake-up")
    assert not ctx.take(PushMessage)
    while ctx.training:
        ctx.end_training(peer)
    pushed = [message for _, message in ctx.take(PushMessage)]
    assert len(pushed) == (1 if tokens == "simple" else 5 + 1)
    assert {(message.model, message.age) for message in pushed} == {(peer.model, 21)}


@pytest.mark.parametrize("seed", range(push_swarm.WALKS_FROM, push_swarm.WALKS_FROM + 20))
def test_whatever_goes_wrong_nothing_forbidden_happens_and_afterwards_all_finish(seed):
    push_swarm.run(seed)


# --- what means nothing ---


@pytest.mark.parametrize("variant", WALKS)
@pytest.mark.parametrize(
    ("key", "value", "valid"),
    [
        ("memory", 5, "0"),
        ("merge_when", "received", "'wake-up'"),
        ("order", "merge-then-update", "'update-then-merge'"),
        ("self_weight", 0.5, "nothing"),
        ("parts", 2, "1"),
    ],
)
def test_a_setting_that_means_nothing_is_refused_with_what_would_be_valid(variant, key, value, valid):
    sentence = rf"{key} = {value!r} means nothing with variant = '{variant}', which .*; valid: {valid}"
    with pytest.raises(ValidationError, match=sentence):
        PushSettings(variant=variant, **{key: value})


def test_weights_mean_nothing_where_nothing_is_merged():
    with pytest.raises(
        ValidationError, match="weighting = 'uniform' means nothing with variant = 'random-walk'"
    ):
        PushSettings(variant="random-walk", weighting="uniform")
    PushSettings(variant="update-merge", weighting="uniform")


@tried(0.2)
@given(st.sampled_from(["wake-up", "received", "full"]), st.integers(0, 10), st.integers(1, 4))
def test_merge_update_takes_whatever_it_took_before(merge_when, memory, parts):
    chosen = {"merge_when": merge_when, "memory": memory, "parts": parts}
    assert PushSettings(**chosen) == PushSettings(**chosen, variant="merge-update")
