"""What is kept of refusals and verdicts, and how little of it."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from gossip.telemetry.rejections import KINDS_MAX, Rejections
from gossip.telemetry.verdicts import ROUNDS_OPEN_MAX, SENDERS_MAX, Verdicts


@given(st.integers(1, 5000))
def test_a_flood_of_refusals_costs_lines_by_its_logarithm_and_the_last_line_says_how_many(count: int) -> None:
    rejections = Rejections()
    told = [said for _ in range(count) if (said := rejections.note("x", "norm")) is not None]
    assert len(told) == math.floor(math.log2(count)) + 1
    assert told == [2**k for k in range(len(told))]
    assert rejections.note("x", "stale") == 1
    assert rejections.note("y", "norm") == 1
    assert rejections.note(None, "norm") == 1


def test_pairs_of_peers_and_reasons_are_bounded() -> None:
    rejections = Rejections()
    assert all(rejections.note(f"p{k}", "norm") == 1 for k in range(KINDS_MAX))
    assert rejections.note("one more", "norm") is None
    assert rejections.note("p0", "norm") == 2


def test_verdicts_of_the_rounds_asked_for_are_averaged_and_forgotten() -> None:
    verdicts = Verdicts()
    for round, weight, reason in ((0, 0.2, ""), (1, 0.0, "far"), (1, 0.0, "far"), (2, 0.6, "")):
        verdicts.note(round, "x", weight, reason)
    verdicts.note(0, "a", 0.25, "")
    assert verdicts.take(2) == {"a": [0.25, ""], "x": [0.06667, "far"]}
    assert verdicts.take(2) == {}
    assert verdicts.take(3) == {"x": [0.6, ""]}
    assert verdicts.as_dict() == {"a": {"accepted": 1}, "x": {"accepted": 2, "far": 2}}
    assert verdicts.weights() == {"a": 0.25, "x": 0.2}


def test_what_nobody_fetches_is_bounded() -> None:
    verdicts = Verdicts()
    for round in range(ROUNDS_OPEN_MAX + 10):
        verdicts.note(round, "x", 1.0, "")
    assert verdicts.take(10) == {}
    assert verdicts.take(11) == {"x": [1.0, ""]}
    for k in range(SENDERS_MAX + 10):
        verdicts.note(0, f"p{k}", 1.0, "")
    assert len(verdicts.as_dict()) == SENDERS_MAX


def test_of_more_senders_than_are_kept_apart_every_model_is_counted() -> None:
    verdicts = Verdicts()
    for k in range(SENDERS_MAX):
        verdicts.note(0, f"p{k}", 1.0, "")
    assert verdicts.others_as_dict() == {}
    for sender, reason in (("x", "far"), ("y", ""), ("x", "far"), ("p0", "far"), ("y", "norm")):
        verdicts.note(1, sender, 0.0, reason)
    assert verdicts.others_as_dict() == {"accepted": 1, "far": 2, "norm": 1}
    assert "x" not in verdicts.as_dict()
    assert verdicts.as_dict()["p0"] == {"accepted": 1, "far": 1}
    assert set(verdicts.weights()) == set(verdicts.as_dict())
