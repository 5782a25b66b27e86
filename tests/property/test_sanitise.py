"""What is refused before any merge rule: laws of the norm's bound, of muting, and that both worlds refuse the same."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from gossip.config import load_task
from gossip.errors import SettingError
from gossip.learner import Learner
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.learning.task import Task
from gossip.merging.average import Average
from gossip.merging.base import WEIGHT_TOLERANCE
from gossip.merging.sanitise import (
    MUTED,
    UNSEEN,
    Sanitiser,
    SanitiseSettings,
    norm_of,
    norms_of,
    without,
)
from gossip.merging.settings import AverageSettings
from gossip.protocols.base import Contribution, GossipStep
from scenarios.virtual.learning.batched import BatchedLearning
from tests.laws import tried

L = 400
ROOT = math.sqrt(L)


class Alone(Average):
    """The average, as if it were no linear rule: it is computed peer by peer."""

    linear = False


class AloneSettings(AverageSettings):
    """Of that one."""

    def load(self) -> type[Alone]:
        """Return it."""
        return Alone


norms = st.floats(min_value=0, max_value=1e30, allow_nan=False)


def reasons(
    sanitiser: Sanitiser, own: float, sent: dict[str, float | None], round: int = 0
) -> dict[str, str]:
    refusals = sanitiser.judge(own, list(sent.items()), round=round)
    return {
        sender: "" if refusal is None else refusal.reason
        for sender, refusal in zip(sent, refusals, strict=True)
    }


def fresh(**values: float) -> Sanitiser:
    return Sanitiser(SanitiseSettings.model_validate(values), L)


@given(own=norms, honest=st.lists(st.floats(0.2, 1.0), min_size=1, max_size=8))
def test_models_no_longer_than_ten_times_the_own_pass_whatever_the_others_send(
    own: float, honest: list[float]
) -> None:
    sent = {f"p{k}": share * 10 * own for k, share in enumerate(honest)}
    assert set(reasons(fresh(), own, dict(sent)).values()) == {""}


@given(
    own=st.floats(0, 1e-6),
    typical=st.floats(1e-3, ROOT),
    shares=st.lists(st.floats(0.5, 2), min_size=2, max_size=9),
)
def test_a_peer_that_begins_at_zero_takes_what_its_neighbours_agree_on(
    own: float, typical: float, shares: list[float]
) -> None:
    sent: dict[str, float | None] = {f"p{k}": share * typical for k, share in enumerate(shares)}
    assert set(reasons(fresh(), own, sent).values()) == {""}


@given(own=st.floats(0, 1e3), others=st.lists(norms, max_size=9))
def test_no_majority_lifts_the_bound_beyond_ten_times_the_own_norm_or_a_mean_square_of_one(
    own: float, others: list[float]
) -> None:
    sent: dict[str, float | None] = {f"p{k}": norm for k, norm in enumerate(others)}
    told = reasons(fresh(), own, sent)
    for sender, norm in sent.items():
        assert norm is not None
        if norm > 10 * max(own, ROOT) * (1 + 1e-9):
            assert told[sender] == "norm"


def test_a_minority_of_long_models_does_not_hide_behind_its_own_length() -> None:
    sent: dict[str, float | None] = {"a": 1.0, "b": 1.2, "c": 0.9, "x": 30.0, "y": 30.0}
    told = reasons(fresh(), 1.0, sent)
    assert told == {"a": "", "b": "", "c": "", "x": "norm", "y": "norm"}


@given(
    own=st.floats(0, 100),
    others=st.lists(st.floats(0, 100), min_size=1, max_size=5),
    length=st.floats(0, 1e4),
)
def test_how_long_a_model_may_be_is_for_the_own_one_and_the_others_to_say(
    own: float, others: list[float], length: float
) -> None:
    told = reasons(fresh(), own, {"x": length, **{f"p{k}": norm for k, norm in enumerate(others)}})
    middle = sorted(others)[(len(others) - 1) // 2]
    assert told["x"] == ("norm" if length > 10 * max(own, min(middle, ROOT)) else "")


def test_of_two_long_models_and_a_short_one_none_vouches_for_itself() -> None:
    assert reasons(fresh(), 1.0, {"a": 1.0, "x": 15.0, "y": 100.0}) == {"a": "", "x": "norm", "y": "norm"}


@given(st.permutations(["a", "b", "c", "x", "nan"]))
def test_the_order_of_the_senders_does_not_matter(order: list[str]) -> None:
    lengths = {"a": 1.0, "b": 1.1, "c": 0.9, "x": 1e6, "nan": math.nan}
    told = reasons(fresh(), 1.0, {sender: lengths[sender] for sender in order})
    assert told == {"a": "", "b": "", "c": "", "x": "norm", "nan": "non-finite"}


def test_one_model_for_each_sender_and_one_shape() -> None:
    refusals = fresh().judge(1.0, [("a", 1.0), ("a", 1.0), ("b", None), ("c", UNSEEN)], round=0)
    assert [each and each.reason for each in refusals] == [None, "same-sender", "shape", "muted"]


def test_whoever_offends_three_times_is_muted_for_ten_rounds_then_for_twenty() -> None:
    sanitiser = fresh()
    muted = []
    for round in range(60):
        (refusal,) = sanitiser.judge(1.0, [("x", math.nan)], round=round)
        assert refusal is not None
        if refusal.reason == "muted":
            muted.append(round)
        else:
            assert refusal.reason == "non-finite"
    # Offences in rounds 0, 1, 2; then one in round 13 and one in round 34 are enough.
    assert muted == [*range(3, 13), *range(14, 34), *range(35, 60)]


@given(st.lists(st.booleans(), max_size=60))
def test_a_peer_with_more_good_models_than_bad_ones_is_never_muted(good_ones: list[bool]) -> None:
    sanitiser = fresh(offences_max=2)
    for round, good in enumerate(flag for pair in good_ones for flag in (True, False, True) if pair or flag):
        (refusal,) = sanitiser.judge(1.0, [("x", 1.0 if good else math.nan)], round=round)
        assert (refusal is None) == good
        assert not sanitiser.is_muted("x")


@given(bad=st.integers(1, 5), repeats=st.lists(st.booleans(), max_size=40))
def test_a_model_that_is_merged_again_is_refused_again_and_held_against_its_sender_once(
    bad: int, repeats: list[bool]
) -> None:
    """What is remembered neither mutes an honest sender nor lets a liar make up for one offence with one good model."""
    sanitiser = fresh(offences_max=bad + 1)
    for _ in range(bad):
        sanitiser.judge(1.0, [("x", math.nan)], round=0)
    for good in repeats:
        (refusal,) = sanitiser.judge(1.0, [("x", 1.0 if good else math.nan)], round=0, again=["x"])
        assert (refusal is None) == good
        assert not sanitiser.is_muted("x")
    sanitiser.judge(1.0, [("x", math.nan)], round=0)
    assert sanitiser.is_muted("x")


def test_zero_rounds_of_muting_mute_nobody() -> None:
    sanitiser = fresh(mute_rounds=0)
    for round in range(10):
        assert reasons(sanitiser, 1.0, {"x": math.nan}, round) == {"x": "non-finite"}


@given(
    weights=st.lists(st.floats(0.01, 1), min_size=1, max_size=8),
    own=st.floats(0, 1),
    left_out=st.lists(st.booleans(), min_size=8, max_size=8),
)
def test_weights_sum_to_one_whatever_is_left_out(
    weights: list[float], own: float, left_out: list[bool]
) -> None:
    total = own + sum(weights)
    received = [Contribution(f"p{k}", None, weight / total) for k, weight in enumerate(weights)]
    refused = fresh().judge(
        1.0,
        [(each.sender, math.nan if out else 1.0) for each, out in zip(received, left_out, strict=False)],
        round=0,
    )
    own_weight, kept = without(own / total, received, refused)
    assert abs(own_weight + sum(each.weight for each in kept) - 1) < WEIGHT_TOLERANCE
    assert own_weight >= 0
    if own / total > 0 and kept:
        before = {each.sender: each.weight for each in received}
        assert all(each.weight == before[each.sender] for each in kept)
    if own == 0 and kept:
        assert own_weight == 0


def test_norms_are_exact_beyond_the_range_of_float32_squares() -> None:
    assert norm_of(torch.full((4,), 1e30)) == pytest.approx(2e30)
    assert math.isnan(norm_of(torch.tensor([1.0, math.inf])))
    assert math.isnan(norm_of(torch.tensor([1.0, math.nan])))
    own = torch.zeros(4)
    received = [
        Contribution("a", torch.zeros(3), 0.1),
        Contribution("b", torch.zeros(4, dtype=torch.float64), 0.1),
        Contribution("c", MUTED, 0.1),
        Contribution("d", torch.tensor([3.0, 4.0, 0.0, 0.0]), 0.1),
    ]
    assert [norm for _, norm in norms_of(own, received)] == [None, None, UNSEEN, 5.0]


def test_a_setting_that_makes_no_sense_is_refused_with_a_sentence() -> None:
    with pytest.raises(SettingError, match=r"norm_factor = 0.5: must be .*greater than or equal to 1"):
        load_task(None, overrides=["sanitise.norm_factor=0.5"])


# --- in both worlds ---------------------------------------------------------------------------------

TASK = Task(
    data=DataSettings(train_max=60, test_max=40),
    model=ModelSettings(name="logistic"),
    local=LocalSettings(lr=0.1),
    seed=3,
    folder=None,  # type: ignore[arg-type]
)
NAMES = ("p0", "p1", "p2", "p3")


def test_models_from_independent_starts_are_never_refused() -> None:
    for name in ("logistic", "mlp", "cnn"):
        task = Task(
            data=TASK.data_settings,
            model=ModelSettings(name=name),
            local=TASK.local_settings,
            seed=1,
            folder=None,  # type: ignore[arg-type]
        )
        size = task.space.learned_size
        sanitiser = Sanitiser(SanitiseSettings(), size)
        models = [task.initial(f"p{k}")[:size] for k in range(8)]
        received = [Contribution(f"p{k}", model, 0.1) for k, model in enumerate(models[1:])]
        assert sanitiser.judge(norm_of(models[0]), norms_of(models[0], received), round=0) == [None] * 7


def bad(model: torch.Tensor, kind: str) -> torch.Tensor:
    match kind:
        case "nan":
            return torch.cat([model[:-1], torch.tensor([math.nan])])
        case "inf":
            return torch.cat([torch.tensor([-math.inf]), model[1:]])
        case "huge":
            return model * 1e30
        case _:
            return model


@tried(0.25)
@given(
    kinds=st.lists(st.tuples(*[st.sampled_from(["good", "nan", "inf", "huge"])] * 3), min_size=1, max_size=6),
    again=st.tuples(*[st.booleans()] * 3),
    method=st.sampled_from(["product", "alone"]),
)
@example(kinds=[("nan", "nan", "nan")] * 6, again=(True, False, True), method="product")
@example(kinds=[("nan", "nan", "nan")] * 6, again=(True, False, True), method="alone")
def test_node_and_virtual_engine_refuse_the_same_models_and_merge_the_same(
    kinds: list[tuple[str, str, str]], again: tuple[bool, bool, bool], method: str
) -> None:
    learning = BatchedLearning(TASK, NAMES, AverageSettings() if method == "product" else AloneSettings())
    told: list[tuple[int, str, str]] = []
    learning.on_judged = lambda peer, judged: told.append(
        (judged.round, judged.verdict.sender, judged.verdict.reason)
    )
    learner = Learner(TASK, peer="p0", position=0, peers=4, merge=Average())
    start = [TASK.initial(name) for name in NAMES]
    own, handle = start[0], learning.from_vector(start[0], 0)
    for round, of in enumerate(kinds):
        sent = [bad(model, kind) for model, kind in zip(start[1:], of, strict=True)]
        received = [
            Contribution(name, model, 0.2, again=repeated)
            for name, model, repeated in zip(NAMES[1:], sent, again, strict=True)
        ]
        own = learner.merge(own, 0.4, received, at=GossipStep(round))
        handles = [
            each._replace(model=learning.from_vector(each.model, k)) for k, each in enumerate(received, 1)
        ]
        handle = learning.merge(handle, 0.4, handles, peer=0, at=GossipStep(round))
        assert torch.allclose(learning.vector(handle), own, atol=1e-6)
        assert own.isfinite().all()
    assert told == [
        (judged.round, judged.verdict.sender, judged.verdict.reason) for judged in learner.take_judged()
    ]
    assert (len(told) > 0) == any(kind != "good" for of in kinds for kind in of)
    repeating = {name for name, repeated in zip(NAMES[1:], again, strict=True) if repeated}
    assert not any(sender in repeating and reason == "muted" for _, sender, reason in told)


def test_a_model_that_no_merge_would_see_is_not_adopted_either() -> None:
    learning = BatchedLearning(TASK, NAMES, AverageSettings())
    learner = Learner(TASK, peer="p0", position=0, peers=4, merge=Average())
    own, other = TASK.initial(), TASK.initial("p1")
    for kind in ("nan", "huge", "good"):
        sent = bad(other, kind)
        adopted = learner.adopt(own, [Contribution("p1", sent, 1.0)])
        deferred = learning.adopt(
            learning.from_vector(own, 0), [Contribution("p1", learning.from_vector(sent, 1), 1.0)]
        )
        assert torch.equal(adopted, other if kind == "good" else own)
        assert torch.equal(learning.vector(deferred), adopted)


@given(st.permutations(["nan", "huge", "good"]), st.booleans())
def test_the_first_model_that_a_merge_would_see_is_adopted(kinds: list[str], both_good: bool) -> None:
    learning = BatchedLearning(TASK, NAMES, AverageSettings())
    learner = Learner(TASK, peer="p0", position=0, peers=4, merge=Average())
    own, others = TASK.initial(), [TASK.initial(f"p{k}") for k in (1, 2, 3)]
    if both_good:
        kinds = ["good" if kind == "huge" else kind for kind in kinds]
    sent = [bad(other, kind) for other, kind in zip(others, kinds, strict=True)]
    adopted = learner.adopt(own, [Contribution(f"p{k}", model, 1.0) for k, model in enumerate(sent, 1)])
    deferred = learning.adopt(
        learning.from_vector(own, 0),
        [Contribution(f"p{k}", learning.from_vector(model, k), 1.0) for k, model in enumerate(sent, 1)],
    )
    assert torch.equal(adopted, sent[kinds.index("good")])
    assert torch.equal(learning.vector(deferred), adopted)
