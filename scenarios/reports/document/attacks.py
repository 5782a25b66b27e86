"""What a document says of attackers, and of verdicts on models: nothing where there are none."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gossip.page.numbers import short
from scenarios.reports.runs import Run

SENDERS_MAX = 60
"""Rows of the verdicts that can be told apart."""

LINES_MAX = 500
"""Rows of the table of senders."""

VerdictsByPeer = Mapping[tuple[str, int], Sequence[tuple[float, str]]]
"""(sender, round) -> weight and reason at each honest peer that judged it."""


def told(run: Run) -> dict[str, Any] | None:
    """Return the attack and what became of every sender's models at honest peers; None without attackers."""
    attack = run.summary.get("attack")
    if not attack or not attack.get("attackers"):
        return None
    attackers = list(attack["attackers"])
    success = attack.get("success_rate")
    judged = told_by(run.metrics)
    return {
        "kind": attack["kind"],
        "attackers": attackers,
        "success": None if success is None else short(success["mean"]),
        "attackers_weight": short(attack.get("attackers_weight")),
        "honest_weight": short(attack.get("honest_weight")),
        "senders": _senders(run, attackers),
        "others": _others(run),
        "verdicts": _verdicts(judged, attackers),
    }


def told_by(metrics: Sequence[Mapping[str, Any]]) -> VerdictsByPeer:
    """Gather the verdicts of all honest peers."""
    found: dict[tuple[str, int], list[tuple[float, str]]] = defaultdict(list)
    for entry in metrics:
        for sender, (weight, reason) in entry.get("verdicts", {}).items():
            found[sender, int(entry["round"])].append((float(weight), str(reason)))
    return found


def _senders(run: Run, attackers: Sequence[str]) -> list[dict[str, Any]]:
    """Return {sender, attacks, models, accepted, reasons}, attackers first."""
    of: dict[str, Counter[str]] = {}
    for peer in run.peers:
        for sender, counts in peer.get("verdicts", {}).items() if peer.get("honest", True) else ():
            of.setdefault(sender, Counter()).update(counts)
    lying = frozenset(attackers)
    ordered = sorted(of, key=lambda name: (name not in lying, name))[:LINES_MAX]
    return [{"sender": name, "attacks": name in lying, **_fates(of[name])} for name in ordered]


def _others(run: Run) -> dict[str, Any] | None:
    """Return the same of senders of whom honest peers had too many to name."""
    counts: Counter[str] = Counter()
    for peer in run.peers:
        counts.update(peer.get("verdicts_on_others", {}) if peer.get("honest", True) else {})
    return _fates(counts) if counts else None


def _fates(counts: Counter[str]) -> dict[str, Any]:
    reasons = {reason: count for reason, count in sorted(counts.items()) if reason != "accepted"}
    return {
        "models": counts.total(),
        "accepted": counts.get("accepted", 0),
        "reasons": ", ".join(f"{reason} {count}" for reason, count in reasons.items()),
    }


def _verdicts(judged: VerdictsByPeer, attackers: Sequence[str]) -> dict[str, Any] | None:
    """Return by sender and round the mean weight in a merge, and the share of honest peers that left it out."""
    senders = sorted({sender for sender, _ in judged}, key=lambda name: (name in attackers, name))
    rounds = sorted({number for _, number in judged})
    if not senders or len(senders) > SENDERS_MAX:
        return None
    cells = [[judged.get((sender, number), ()) for number in rounds] for sender in senders]
    return {
        "senders": senders,
        "attacks": [sender in attackers for sender in senders],
        "rounds": rounds,
        "weight": [[_mean([w for w, _ in cell]) for cell in row] for row in cells],
        "left_out": [[_mean([float(w == 0) for w, _ in cell]) for cell in row] for row in cells],
    }


def _mean(values: Sequence[float]) -> float | int | None:
    return short(float(np.mean(values))) if values else None
