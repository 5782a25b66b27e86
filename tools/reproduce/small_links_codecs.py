"""Rows of `small_links.py`: models as int8 and int4 beside float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from link_runs import Row, Runs, accuracy, payload

BOUNDS = {"codec-int8": (0.5, 3.9), "codec-int4": (2.0, 7.1)}
"""Points of accuracy below float32, and times fewer bytes."""
FEW = ("scenario.peers=6", "stop.rounds=4", "local.epochs=1")
"""Of runs whose bytes are compared: they do not hang on what is learnt."""


def _beside_float32(runs: Runs, scenario: str) -> Row:
    points_max, ratio_min = BOUNDS[scenario]
    whole, coded = runs.of("ring-dfedavg"), runs.of(scenario)
    behind = accuracy(whole) - accuracy(coded)
    ratio = payload(whole) / payload(coded)
    return Row(
        scenario,
        f"within {points_max:g} points of float32, {ratio_min:g} times fewer bytes",
        f"{accuracy(coded):.1f} %, float32 {accuracy(whole):.1f} % ({-behind:+.2f}); {ratio:.2f} times fewer",
        behind <= points_max and ratio >= ratio_min,
    )


def int8(runs: Runs) -> Row:
    """A byte a number."""
    return _beside_float32(runs, "codec-int8")


def int4(runs: Runs) -> Row:
    """Half a byte a number."""
    return _beside_float32(runs, "codec-int4")


def equal_bytes(runs: Runs) -> Row:
    """Real processes over TLS send what the virtual engine counts."""
    found, ok = [], True
    for scenario in BOUNDS:
        sent = []
        for engine in ("virtual", "processes"):
            (told,) = runs.in_engine(engine).of(scenario, *FEW, first=True)
            sent.append(told["bytes"]["payload"])
        found.append(f"{scenario} {sent[0]} and {sent[1]}")
        ok = ok and sent[0] == sent[1]
    return Row("bytes of both engines", "equal", ", ".join(found), ok)


ROWS: Sequence[Callable[[Runs], Row]] = (int8, int4, equal_bytes)
