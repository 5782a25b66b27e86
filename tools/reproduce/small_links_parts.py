"""Rows of `small_links.py`: models in parts, a quarter in each exchange."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from link_runs import Row, Runs, accuracy, payload, shown

RATIO_MIN = 3.9
WITHIN = 1.0
"""Points of accuracy."""
SMALL = ("scenario.peers=8", "local.epochs=1")
"""Of runs whose bytes or bits are compared: their figures do not depend on how many peers there are."""
ROBUST = ("topology.kind=full", "merge.kind=nnm+trimmed-mean", "merge.f=4")


def parts_4(runs: Runs) -> Row:
    """Bytes of a quarter of each model in turn."""
    whole, parts = runs.of("ring-dfedavg"), runs.of("parts-4")
    ratio = payload(whole) / payload(parts)
    return Row(
        "parts-4",
        f"{RATIO_MIN:g} times fewer bytes",
        f"{ratio:.2f} times fewer: {shown('parts', parts)}, {shown('whole models', whole)}",
        ratio >= RATIO_MIN,
    )


def turn_of_parts(runs: Runs) -> Row:
    """As many gossip steps as parts are one step of whole models.

    In the virtual engine after one round: later local updates are computed in other stacks, which rounds otherwise.
    """
    settings = (*SMALL, f"stop.rounds={1 if runs.engine == 'virtual' else 4}")
    one_step = runs.models("ring-dfedavg", *settings)
    in_turn = runs.models("ring-dfedavg", *settings, "protocol.parts=4", "protocol.gossip_steps=4")
    apart = max(float((one - other).abs().max()) for one, other in zip(one_step, in_turn, strict=True))
    return Row(
        "four steps of four parts",
        "are one step of whole models, to the bit",
        f"largest difference {apart:g}",
        apart == 0,
    )


def _attacked(runs: Runs, *more: str, attackers: int = 4, epochs: int = 1) -> float:
    """Return the mean accuracy of the honest peers, in %.

    Real attackers know no models but what they are sent, and send the opposite of their own.
    """
    kind = "alie" if runs.engine == "virtual" else "sign-flip"
    attack = (f"attack.kind={kind}", f"attack.count={attackers}") if attackers and not runs.smoke else ()
    rule = ROBUST if not runs.smoke else (*ROBUST[:2], "merge.f=1", *ROBUST[3:])
    return accuracy(runs.of("ring-dfedavg", *rule, f"local.epochs={epochs}", *attack, *more))


def robust_parts(runs: Runs) -> Row:
    """A robust rule under attack judges each part by itself: at the bytes of whole models it is as good."""
    whole = _attacked(runs)
    parts = _attacked(runs, "protocol.parts=4", "protocol.gossip_steps=4")
    return Row(
        "nnm+trimmed-mean, 4 of 20 attack, parts in turn",
        f"within {WITHIN:g} point of whole models",
        f"whole {whole:.1f} %, parts {parts:.1f} %",
        parts >= whole - WITHIN,
    )


def robust_quarter(runs: Runs) -> Row:
    """At a quarter of the bytes peers are mixed less, and whoever hides among them moves more, parts or not.

    So parts are set beside whole models that take as few bytes: a quarter of the exchanges, each after four times the
    local epochs.
    """
    seldom = ("stop.rounds=15",) if not runs.smoke else ()
    whole, calm = (_attacked(runs, *seldom, attackers=attackers, epochs=4) for attackers in (4, 0))
    parts, calm_parts = (_attacked(runs, "protocol.parts=4", attackers=attackers) for attackers in (4, 0))
    return Row(
        "the same at a quarter of the bytes",
        f"within {WITHIN:g} point of whole models in a quarter of the exchanges",
        f"whole {whole:.1f} % ({calm:.1f} without attack), parts {parts:.1f} % ({calm_parts:.1f})",
        parts >= whole - WITHIN,
    )


ROWS: Sequence[Callable[[Runs], Row]] = (parts_4, turn_of_parts, robust_parts, robust_quarter)
