"""When a model counts as diverged, what is named as the cause, and which inputs count as unscaled."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from gossip.learning import divergence
from gossip.learning.divergence import Sign, Watch, cause_of, rms_of, told
from gossip.learning.scales import Scales, caution, scales_of, scales_of_task
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.learning.task import Task
from scenarios.records import PeerOutcome, Traffic
from scenarios.reports.divergences import Divergences
from scenarios.summary import divergence as summarised

NAN, INF = math.nan, math.inf
TAME = Scales(largest=1.0, column=0, std=0.4, median_std=0.2)
WILD = Scales(largest=5e4, column=3, std=2e4, median_std=1.0)


def update(
    watch: Watch, *, round: int = 3, loss: float = 1.0, first: float = 1.0, skipped: int = 0
) -> Sign | None:
    return watch.trained(round=round, loss=loss, first_loss=first, steps=8, skipped=skipped)


def watch(classes: int = 10, rms: float = 0.1) -> Watch:
    return Watch(chance=math.log(classes), rms=rms)


def test_losses_around_that_of_chance_are_no_sign():
    watched = watch()
    assert update(watched, round=0, loss=2.3, first=2.4) is None
    assert update(watched, loss=9.0, first=9.0) is None
    assert watched.evaluated(round=5, loss=60.0, rms=3.0) is None


@pytest.mark.parametrize("loss", [12.1, 1e30, INF, NAN])
def test_a_loss_far_above_that_of_chance_is_a_sign(loss):
    watched = watch()
    update(watched, round=0, loss=2.3, first=2.4)
    sign = update(watched, loss=loss)
    assert (sign.reason, sign.round, sign.own) == ("loss", 4, True)
    assert ("not finite" in str(sign)) is not math.isfinite(loss)


def test_one_mini_batch_whose_gradient_is_not_finite_is_a_sign():
    sign = update(watch(), loss=1.0, skipped=1)
    assert (sign.reason, sign.skipped, sign.steps) == ("gradient", 1, 8)
    assert "1 of 8 mini-batches" in str(sign)


def test_a_network_may_begin_with_a_large_loss_and_come_down():
    watched = watch()
    assert update(watched, round=0, loss=40.0, first=70.0) is None
    assert update(watched, loss=30.0) is None
    assert update(watched, loss=400.0).limit == 350.0


def test_two_classes_are_allowed_the_loss_of_a_bad_peer():
    watched = watch(classes=2)
    assert update(watched, loss=6.0, first=0.7) is None


def test_a_model_that_was_so_before_its_own_steps_is_told_apart():
    watched = watch()
    update(watched, round=0, loss=2.3, first=2.3)
    assert update(watched, loss=50.0, first=50.0).own is False


@pytest.mark.parametrize(("round", "initial"), [(0, True), (3, False)])
def test_a_first_output_that_is_not_finite_is_initial_only_before_anything_is_learnt(round, initial):
    assert update(watch(), round=round, loss=NAN, first=NAN, skipped=8).initial is initial


def test_a_resumed_process_does_not_call_what_it_finds_a_divergence():
    watched = watch()
    assert update(watched, round=9, loss=50.0, first=60.0) is None


@pytest.mark.parametrize("loss", [231.0, INF, NAN])
def test_the_loss_on_test_samples_is_a_sign_where_it_is_a_hundred_times_that_of_chance(loss):
    sign = watch().evaluated(round=2, loss=loss, rms=0.1)
    assert (sign.reason, sign.round, sign.own) == ("test-loss", 2, False)


@pytest.mark.parametrize("rms", [10.1, INF, NAN])
def test_weights_that_have_blown_up_with_a_harmless_loss_are_a_sign(rms):
    sign = watch().evaluated(round=2, loss=2.3, rms=rms)
    assert sign.reason == "weights"
    assert ("not finite" in str(sign)) is math.isnan(rms)


def test_weights_that_were_large_from_the_start_are_none():
    assert watch(rms=50.0).evaluated(round=2, loss=2.3, rms=400.0) is None
    assert watch(rms=50.0).evaluated(round=2, loss=2.3, rms=600.0) is not None


def test_the_root_mean_square_is_exact_beyond_the_range_of_float32_and_not_a_number_for_what_is_not_finite():
    assert rms_of(torch.full((3,), 1e30)) == pytest.approx(1e30)
    assert math.isnan(rms_of(torch.tensor([1.0, INF])))
    assert rms_of(torch.empty(0)) == 0.0


def sign(**said) -> Sign:
    return Sign(**{"reason": "loss", "round": 1, "own": True, "loss": 1e9, "limit": 11.5, **said})


def test_the_learning_rate_is_named_with_its_value():
    kind, clause = cause_of(sign(), lr=1e6, scales=TAME)
    assert kind == "learning-rate"
    assert "[local] lr = 1e+06" in clause
    assert "merged" not in clause


def test_a_model_that_was_so_before_its_own_steps_may_have_been_merged():
    kind, clause = cause_of(sign(own=False), lr=1e6, scales=TAME)
    assert kind == "learning-rate"
    assert "a model that it merged" in clause


def test_unscaled_inputs_are_named_with_their_range():
    kind, clause = cause_of(sign(), lr=0.1, scales=WILD)
    assert kind == "inputs"
    assert "column 3 reaches |x| = 5e+04" in clause


def test_what_the_network_makes_of_its_inputs_is_named_where_it_was_so_from_the_start():
    kind, _ = cause_of(sign(reason="gradient", initial=True), lr=0.1, scales=TAME)
    assert kind == "start"


def line(peer: str = "bob", *, round: int = 7, scales: Scales = TAME, **said) -> dict[str, object]:
    """A line of events.jsonl, through JSON."""
    seen = sign(**{"own": False, "round": round, "loss": INF, **said})
    entry = {
        "event": divergence.EVENT,
        "peer": peer,
        **told(peer, seen, cause_of(seen, lr=0.1, scales=scales)),
    }
    return json.loads(json.dumps(entry, allow_nan=False))


SEEN = "bob diverges in round 7: its training loss is not finite; the likely cause is "


def test_what_is_told_is_json_and_a_sentence():
    assert divergence.is_told(line())
    assert line()["sentence"].startswith(SEEN + "[local] lr = 0.1")


def taken(*lines: dict[str, object], attackers: int = 0) -> dict[str, object]:
    found = Divergences(["alice", "bob"], attackers=attackers, lr=0.1)
    for each in lines:
        found.note(each)
    return found.of


def test_a_run_takes_the_first_line_of_each_honest_peer_and_says_one(caplog):
    of = taken(
        {"event": "started", "peer": "bob"}, line(round=3), line(round=4), line("mallory"), line("alice")
    )
    assert {peer: entry["round"] for peer, entry in of.items()} == {"bob": 3, "alice": 7}
    assert [record.getMessage() for record in caplog.records] == [line(round=3)["sentence"]]


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ({"own": True, "round": 1}, "learning-rate"),
        ({"own": True, "round": 7}, "received"),
        ({"own": False, "round": 1}, "received"),
        ({"own": False, "scales": WILD}, "inputs"),
        ({"initial": True}, "start"),
    ],
)
def test_where_others_attack_they_are_named_for_all_that_came_after_a_merge(said, cause):
    attacked, alone = taken(line(**said), attackers=4)["bob"], taken(line(**said))["bob"]
    assert attacked["cause"] == cause
    assert alone["cause"] == ("learning-rate" if cause == "received" else cause)
    if cause == "received":
        clause = "what the merge rule let through of 4 that attack, or else [local] lr = 0.1"
        assert attacked["sentence"] == SEEN.replace("round 7", f"round {said['round']}") + clause
    else:
        assert attacked == alone


def test_an_honest_peer_of_which_others_refused_models_that_are_not_finite_has_diverged():
    def outcome(peer: str, **said) -> PeerOutcome:
        return PeerOutcome(
            peer=peer,
            state="finished",
            rounds=3,
            score=0.1,
            test_loss=2.3,
            sent=Traffic(),
            received=Traffic(),
            messages={},
            rejected_messages={},
            adopted=0,
            **said,
        )

    heard = {"bob": {"non-finite": 2}, "alice": {"norm": 1}, "mallory": {"non-finite": 9}}
    peers = [outcome("alice", verdicts=heard), outcome("bob")]
    found = summarised(peers)
    assert (found["peers"], found["first"]) == (["bob"], None)
    assert (
        found["sentence"]
        == "1 of 2 peers diverged: others have refused models of bob whose values are not finite"
    )
    assert summarised([outcome("alice")]) is None
    told_too = summarised([*peers, outcome("carol", divergence=line("carol"))])
    assert (told_too["peers"], told_too["first"]["peer"]) == (["bob", "carol"], "carol")


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"event": "diverged"},
        {"event": "adopted", "round": 1, "peer": "a", "reason": "", "cause": "", "sentence": ""},
    ],
)
def test_other_lines_and_torn_ones_are_not_taken_for_a_divergence(entry):
    assert not divergence.is_told(entry)


# --- the range of inputs ---


def columns(*scales: float, samples: int = 200) -> torch.Tensor:
    noise = torch.randn(samples, len(scales), generator=torch.Generator().manual_seed(0))
    return noise * torch.tensor(scales)


@pytest.mark.parametrize(
    "x",
    [
        columns(1, 1, 1),
        columns(1, 1, 1e-4),  # a column that hardly varies does no harm
        columns(2, 0.01, 0.01),  # nor one that is large only beside others
        columns(12, 12, 12),  # one scale, which a step size can suit
        torch.zeros(5, 3),
        torch.rand(1, 1, 8, 8),
    ],
)
def test_inputs_of_one_scale_and_small_ones_are_no_mistake(x):
    assert not scales_of(x).unscaled


@pytest.mark.parametrize(
    "x", [columns(1, 1, 1e4), columns(5, 0.01, 0.01), columns(1e3, 1e3), torch.full((9, 2), 2024.0)]
)
def test_a_column_out_of_scale_and_large_inputs_are(x):
    assert scales_of(x).unscaled


def test_the_range_is_that_of_all_samples_and_of_the_column_where_it_is():
    x = columns(1, 1, 1, samples=20_000)
    x[7, 1] = -500.0  # one of those that the standard deviation does not see
    scales = scales_of(x)
    assert (scales.largest, scales.column) == (500.0, 1)
    assert scales.unscaled
    assert scales_of(columns(1, 300)).spread == pytest.approx(300, rel=0.2)
    assert str(scales).startswith("column 1 reaches |x| = 500")


def test_behind_an_extractor_the_inputs_are_its_features():
    task = Task(
        data=DataSettings(train_max=64, test_max=16),
        model=ModelSettings(name="linear", extractor="random-features", features=30),
        local=LocalSettings(),
        seed=0,
        folder=Path(),
    )
    assert scales_of_task(task) == scales_of(task.x_train)
    assert scales_of_task(task) != scales_of(task.dataset.x_train)


def test_a_users_network_may_take_what_it_likes():
    assert caution(WILD, ModelSettings(name="mlp")) is not None
    assert caution(WILD, ModelSettings(name="python:net.py:small")) is None
    assert caution(TAME, ModelSettings(name="mlp")) is None
