"""Many runs as one table: rules down, attacks across, honest accuracy in each cell over all runs that belong there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NOBODY = "no attack"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the runs of each rule and attack have come to."""

    rules: tuple[str, ...]
    attacks: tuple[str, ...]
    runs: NDArray[np.int64]  # (rules, attacks)
    mean: NDArray[np.float64]
    """Mean accuracy of honest peers, mean of the runs; NaN where there is no run."""
    std: NDArray[np.float64]
    """Of the runs' means."""
    worst: NDArray[np.float64]
    """Accuracy of the worst honest peer, mean of the runs."""

    @property
    def worth_showing(self) -> bool:
        """Whether there is more than one cell, and an attack or a second rule."""
        return len(self.rules) > 1 or len(self.attacks) > 1


def compare(runs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> Comparison:
    """Return the table of (summary, tables of scenario.toml); rules and attacks as they first come, no attack first."""
    cells: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    rules_of = _rules([settings for _, settings in runs])
    for (summary, _), rule in zip(runs, rules_of, strict=True):
        if summary["accuracy"]["mean"] is not None:
            cells.setdefault((rule, _attack(summary)), []).append(summary)
    rules = tuple(dict.fromkeys(rule for rule, _ in cells))
    attacks = tuple(sorted(dict.fromkeys(attack for _, attack in cells), key=lambda name: name != NOBODY))
    shape = (len(rules), len(attacks))
    counts = np.zeros(shape, dtype=np.int64)
    mean, std, worst = (np.full(shape, np.nan) for _ in range(3))
    for (rule, attack), found in cells.items():
        place = rules.index(rule), attacks.index(attack)
        accuracies = [summary["accuracy"]["mean"] for summary in found]
        counts[place] = len(found)
        mean[place], std[place] = np.mean(accuracies), np.std(accuracies)
        worst[place] = np.mean([summary["accuracy"]["min"] for summary in found])
    return Comparison(rules, attacks, counts, mean, std, worst)


def _attack(summary: Mapping[str, Any]) -> str:
    attack = summary.get("attack")
    return NOBODY if not attack else f"{attack['kind']} × {len(attack['attackers'])}"


def _rules(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the name of each run's rule, with the settings in which runs of one kind differ."""
    merges = [_merge(tables) for tables in settings]
    seen: dict[str, dict[str, set[str]]] = {}
    for merge in merges:
        keys = seen.setdefault(merge["kind"], {})
        for key, value in merge.items():
            keys.setdefault(key, set()).add(str(value))
    names = []
    for merge in merges:
        differing = sorted(
            # f goes with the number of attackers, which has columns of its own.
            key
            for key, values in seen[merge["kind"]].items()
            if len(values) > 1 and key not in ("kind", "f")
        )
        told = ", ".join(f"{key} = {_word(merge.get(key))}" for key in differing)
        names.append(merge["kind"] + (f" ({told})" if told else ""))
    several = len({_algorithm(tables) for tables in settings}) > 1
    return [
        f"{_algorithm(tables)}: {name}" if several else name
        for tables, name in zip(settings, names, strict=True)
    ]


def _merge(tables: Mapping[str, Any]) -> Mapping[str, Any]:
    if tables.get("protocol", {}).get("gossip_steps") == 0:
        return {"kind": "local"}
    return {"kind": "average", **tables.get("merge", {})}


def _algorithm(tables: Mapping[str, Any]) -> str:
    return str(tables.get("scenario", {}).get("algorithm", ""))


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
