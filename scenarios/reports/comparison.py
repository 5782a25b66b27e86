"""Many runs as one table: rules down, attacks across, in each cell the honest score of one experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenarios.reports.differences import NOBODY, Experiment, Said, experiments
from scenarios.reports.repetitions import by_seed


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the runs of each rule and attack have come to. Runs of one cell differ by their seeds and nothing else."""

    rules: tuple[str, ...]
    attacks: tuple[str, ...]
    runs: NDArray[np.int64]  # (rules, attacks)
    """How many seeds."""
    mean: NDArray[np.float64]
    """Mean score of honest peers, mean of the seeds; NaN where there is no run."""
    std: NDArray[np.float64]
    """Of the seeds' means."""
    worst: NDArray[np.float64]
    """Score of the worst honest peer, mean of the seeds."""
    told: tuple[str, ...]
    """Of rules whose f goes with the attack: which f, where."""
    several_rules: bool
    """Whether the rows differ in their merge rule, and not in other settings alone."""

    @property
    def worth_showing(self) -> bool:
        """Whether rules or attacks are compared: of anything else the runs say as much one by one."""
        return self.several_rules or len(self.attacks) > 1


def compare(runs: Sequence[Said]) -> Comparison:
    """Return the table of (summary, tables of scenario.toml); rules and attacks as they first come, no attack first."""
    found = [
        (summary, experiment)
        for (summary, _), experiment in zip(runs, experiments(runs), strict=True)
        if summary["score"]["mean"] is not None
    ]
    cells: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for summary, experiment in found:
        cells.setdefault((experiment.row, experiment.column), []).append(summary)
    rules = tuple(dict.fromkeys(rule for rule, _ in cells))
    columns = dict.fromkeys((experiment.attack != NOBODY, experiment.column) for _, experiment in found)
    attacks = tuple(column for _, column in sorted(columns, key=lambda column: column[0]))
    shape = (len(rules), len(attacks))
    counts = np.zeros(shape, dtype=np.int64)
    mean, std, worst = (np.full(shape, np.nan) for _ in range(3))
    for (rule, attack), summaries in cells.items():
        place = rules.index(rule), attacks.index(attack)
        scores = by_seed(summaries, lambda summary: summary["score"]["mean"])
        counts[place] = len(scores)
        mean[place], std[place] = np.mean(scores), np.std(scores)
        worst[place] = np.mean(by_seed(summaries, lambda summary: summary["score"]["worst"]))
    shown = [experiment for _, experiment in found]
    several = len({experiment.rule for experiment in shown}) > 1
    return Comparison(rules, attacks, counts, mean, std, worst, _told(shown), several)


def _told(found: Sequence[Experiment]) -> tuple[str, ...]:
    by_rule: dict[str, dict[str, list[str]]] = {}
    for experiment in found:
        if experiment.f is not None:
            columns = by_rule.setdefault(experiment.row, {}).setdefault(str(experiment.f), [])
            if experiment.column not in columns:
                columns.append(experiment.column)
    return tuple(
        f"{rule}: " + "; ".join(f"f = {f} ({', '.join(columns)})" for f, columns in told.items())
        for rule, told in by_rule.items()
        if len(told) > 1
    )
