"""Objectives: losses as in torch, scores as in scikit-learn, and a sentence for targets that are none."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics
from torch import Tensor
from torch.nn import functional

from gossip.errors import DataError, SettingError
from gossip.learning.objectives.base import Objective
from gossip.learning.objectives.score import ACCURACY, Score, score_in, with_score
from gossip.learning.objectives.settings import OBJECTIVES
from tests.laws import tried

KINDS = ("classification", "multi-label", "regression", "sequence")


def objective(kind: str, **settings: object) -> Objective:
    choice = OBJECTIVES.validate({"kind": kind, **settings})
    made: Objective = choice.load()(choice)
    return made


def case(kind: str, seed: int, count: int = 37) -> tuple[Tensor, Tensor]:
    """Return outputs and targets of `count` samples."""
    draw = torch.Generator().manual_seed(seed)
    if kind == "classification":
        return torch.randn(count, 4, generator=draw), torch.randint(0, 4, (count,), generator=draw)
    if kind == "multi-label":
        return torch.randn(count, 3, generator=draw), torch.randint(0, 2, (count, 3), generator=draw).float()
    if kind == "regression":
        return torch.randn(count, 2, generator=draw), 5 + torch.randn(count, 2, generator=draw)
    targets = torch.randint(0, 5, (count, 6), generator=draw)
    return torch.randn(count, 6, 5, generator=draw), targets.where(
        torch.rand(count, 6, generator=draw) < 0.8, -100
    )


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 10**6), cut=st.integers(1, 36))
@tried(0.5)
def test_batches_add_up_to_the_whole(kind: str, seed: int, cut: int) -> None:
    outputs, targets = case(kind, seed)
    chosen = objective(kind)
    whole = chosen.measured(chosen.sums(outputs, targets))
    parts = chosen.sums(outputs[:cut], targets[:cut]) + chosen.sums(outputs[cut:], targets[cut:])
    assert chosen.measured(parts) == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_score_is_that_of_all_metrics_and_the_loss_of_a_test_set_is_that_of_training(kind: str) -> None:
    outputs, targets = case(kind, 1)
    chosen = objective(kind)
    measured = chosen.measured(chosen.sums(outputs, targets))
    told = chosen.metrics(outputs, targets)
    assert told[chosen.score.name] == pytest.approx(measured.score)
    assert measured.loss == pytest.approx(float(chosen.loss(outputs, targets)), rel=1e-5)
    assert told["samples"] == 37


def test_scores_are_those_of_scikit_learn() -> None:
    outputs, targets = case("classification", 2)
    told = objective("classification").metrics(outputs, targets)
    found, shares = outputs.argmax(1).numpy(), outputs.softmax(1).numpy()
    assert told["accuracy"] == pytest.approx(metrics.accuracy_score(targets, found))
    assert told["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(targets, found))
    assert told["f1"] == pytest.approx(metrics.f1_score(targets, found, average="macro"))
    assert told["auc"] == pytest.approx(metrics.roc_auc_score(targets, shares, multi_class="ovr"), abs=1e-6)
    assert told["confusion"] == metrics.confusion_matrix(targets, found).tolist()
    assert told["recall"] == pytest.approx(metrics.recall_score(targets, found, average=None).tolist())
    outputs, targets = case("multi-label", 2)
    told = objective("multi-label").metrics(outputs, targets)
    assert told["f1"] == pytest.approx(metrics.f1_score(targets, outputs > 0, average="micro"))
    assert told["f1_macro"] == pytest.approx(metrics.f1_score(targets, outputs > 0, average="macro"))
    assert told["auc"] == pytest.approx(metrics.roc_auc_score(targets, outputs, average="macro"))
    outputs, targets = case("regression", 2)
    told = objective("regression").metrics(outputs, targets)
    assert told["r2"] == pytest.approx(metrics.r2_score(targets, outputs))
    assert told["mae"] == pytest.approx(metrics.mean_absolute_error(targets, outputs))
    assert told["rmse"] == pytest.approx(math.sqrt(metrics.mean_squared_error(targets, outputs)))
    outputs, targets = case("sequence", 2)
    told = objective("sequence").metrics(outputs, targets)
    counted = targets != -100
    nll = functional.cross_entropy(outputs[counted], targets[counted])
    assert told["perplexity"] == pytest.approx(math.exp(float(nll)), rel=1e-5)
    assert told["token_accuracy"] == pytest.approx(
        float((outputs.argmax(2) == targets)[counted].float().mean())
    )


def test_a_class_that_nobody_has_leaves_what_is_not_defined_empty() -> None:
    outputs, targets = case("classification", 3)
    told = objective("classification").metrics(outputs, targets.clamp(max=2))
    assert told["recall"][3] is None
    assert told["auc"] is None
    assert 0 <= told["balanced_accuracy"] <= 1


def test_weights_and_smoothing_are_torchs() -> None:
    outputs, targets = case("classification", 4)
    weights = (1.0, 2.0, 0.5, 3.0)
    chosen = objective("classification", class_weights=weights, label_smoothing=0.1)
    wanted = functional.cross_entropy(outputs, targets, weight=torch.tensor(weights), label_smoothing=0.1)
    assert torch.equal(chosen.loss(outputs, targets), wanted)
    assert not chosen.plain
    assert objective("classification").plain
    outputs, targets = case("multi-label", 4)
    chosen = objective("multi-label", positive_weights=(1.0, 2.0, 3.0))
    wanted = functional.binary_cross_entropy_with_logits(
        outputs, targets, pos_weight=torch.tensor([1.0, 2, 3])
    )
    assert torch.equal(chosen.loss(outputs, targets), wanted)
    outputs, targets = case("regression", 4)
    for loss, of in (("absolute", functional.l1_loss), ("squared", functional.mse_loss)):
        assert torch.equal(objective("regression", loss=loss).loss(outputs, targets), of(outputs, targets))
    huber = objective("regression", loss="huber", delta=0.5)
    assert torch.equal(huber.loss(outputs, targets), functional.huber_loss(outputs, targets, delta=0.5))


def test_positions_that_do_not_count_change_nothing() -> None:
    outputs, targets = case("sequence", 5)
    chosen = objective("sequence")
    other = torch.where((targets == -100)[..., None], torch.randn_like(outputs) * 9, outputs)
    assert torch.equal(chosen.loss(outputs, targets), chosen.loss(other, targets))
    assert torch.equal(chosen.sums(outputs, targets), chosen.sums(other, targets))


@pytest.mark.parametrize(
    ("kind", "array", "sentence"),
    [
        ("classification", np.ones((4, 1)), "shape (4, 1); it must be (samples,)"),
        ("classification", np.array([0, 1.5]), "holds 1.5 at 1; class numbers are whole"),
        ("multi-label", np.zeros(4), "shape (4,); it must be (samples, labels)"),
        ("multi-label", np.array([[0, 1], [2, 0]]), "holds 2; labels are 0 or 1"),
        ("multi-label", np.array([["a"]]), "holds <U1; zeros and ones are needed"),
        ("regression", np.zeros((4, 2, 2)), "shape (4, 2, 2); it must be (samples,) or (samples, columns)"),
        ("regression", np.array([[1.0], [np.nan]]), "is not finite in sample 1"),
        ("regression", np.array([]), "is empty"),
        ("sequence", np.zeros(4), "shape (4,); it must be (samples, positions)"),
        ("sequence", np.array([[0, -1]]), "holds -1 at (0, 1); tokens are 0"),
        ("sequence", np.array([[0.5]]), "holds 0.5 at (0, 0); tokens are whole"),
    ],
)
def test_targets_that_are_none_are_refused_with_a_sentence(
    kind: str, array: np.ndarray, sentence: str
) -> None:
    with pytest.raises(DataError) as caught:
        objective(kind).targets(array, source="x.npz", key="y_train")
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("x.npz: 'y_train' ")


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_of_another_shape_are_told(kind: str) -> None:
    outputs, targets = case(kind, 6)
    chosen = objective(kind)
    width = outputs.shape[-1]
    assert chosen.check_outputs(outputs, targets, width) is None
    assert "gives shape" in str(chosen.check_outputs(outputs[..., :1], targets, width))
    assert "gives tuple" in str(chosen.check_outputs((outputs,), targets, width))
    assert "int64" in str(chosen.check_outputs(outputs.long(), targets, width))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"kind": "classification", "class_weights": [1.0, -1.0]}, "class_weights"),
        ({"kind": "classification", "class_weights": [0.0, 0.0]}, "nor all zero"),
        ({"kind": "multi-label", "positive_weights": [0.0]}, "positive_weights"),
    ],
)
def test_weights_that_are_none_are_refused(settings: dict, sentence: str) -> None:
    choice = OBJECTIVES.validate(settings)
    with pytest.raises(SettingError, match=sentence):
        choice.load()(choice)


def test_one_weight_for_each_class_is_wanted() -> None:
    outputs, targets = case("classification", 7)
    with pytest.raises(SettingError, match="there are 2 for 4 classes"):
        objective("classification", class_weights=[1.0, 1.0]).check_outputs(outputs, targets, 4)
    outputs, targets = case("multi-label", 7)
    with pytest.raises(SettingError, match="there are 2 for 3 labels"):
        objective("multi-label", positive_weights=[1.0, 1.0]).check_outputs(outputs, targets, 3)


def test_a_constant_column_has_no_r2_and_does_not_spoil_the_others() -> None:
    chosen = objective("regression")
    outputs = torch.tensor([[1.0, 2.0], [1.0, 3.0], [1.0, 5.0]])
    targets = torch.tensor([[4.0, 2.0], [4.0, 3.0], [4.0, 5.0]])
    assert chosen.measured(chosen.sums(outputs, targets)).score == 1.0
    alone = chosen.measured(chosen.sums(outputs[:, :1], targets[:, :1]))
    assert math.isnan(alone.score)
    assert chosen.score.recorded(alone.score) == {"score": None, "accuracy": None}


def test_scores_know_which_way_is_up_and_how_they_are_told() -> None:
    up, down = Score("r2"), Score("perplexity", higher_is_better=False)
    assert (up.worst([1.0, 2.0]), down.worst([1.0, 2.0]), up.worst([])) == (1.0, 2.0, None)
    assert up.better(2, 1)
    assert down.better(1, 2)
    assert not up.better(math.nan, 1)
    assert not up.better(1, math.nan)
    assert (ACCURACY.told(0.9515), up.told(0.48), down.told(12.3456), up.told(None)) == (
        "95.2 %",
        "0.48",
        "12.35",
        "–",
    )
    assert ACCURACY.recorded(0.5) == {"score": 0.5, "accuracy": 0.5}
    assert down.recorded(3.0) == {"score": 3.0, "accuracy": None}


def test_records_of_older_runs_are_read_as_todays() -> None:
    older = {
        "accuracy": {"mean": 0.9, "std": 0.1, "min": 0.8, "max": 1.0},
        "accuracy_of_mean": 0.95,
        "curve": [{"round": 1, "accuracy_mean": 0.5, "accuracy_min": 0.4}],
    }
    read = with_score(older)
    assert read["score"] == {**older["accuracy"], "worst": 0.8}
    assert (read["score_of_mean"], read["curve"][0]["score_min"]) == (0.95, 0.4)
    assert score_in(read) == ACCURACY
    today = {**read, "objective": Score("r2")._asdict(), "score_of_mean": 0.1}
    assert with_score(today)["score_of_mean"] == 0.1
    assert score_in(today) == Score("r2")
