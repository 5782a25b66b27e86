"""A page's runs as rows: few of them one by one, many pooled over their seeds, each row with a line of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scenarios.reports.differences import FIRST, NOBODY, Experiment, Said, experiments, labels
from scenarios.reports.repetitions import Summary, by_seed, pooled_curve
from scenarios.reports.series import COLOURS, Series

ALONE_MAX = 6
"""More runs than these are pooled over their seeds."""

DASHES = ("-", "--", "-.", ":")
"""As many can be told apart in a chart."""

CURVES_MAX = 24
"""As many curves as colours and line styles can tell apart; more are compared in a table."""

STROKES = {"-": "none", "--": "7 3", "-.": "9 3 2 3", ":": "2 3"}
"""The dashes in SVG."""


class Measured(NamedTuple):
    """A mean, and its standard deviation over the peers of one run, or over several seeds."""

    mean: float | None
    std: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """One run, or one experiment with all its seeds."""

    label: str
    runs: tuple[int, ...]
    """Their places among the page's runs."""
    cells: tuple[str, ...]
    """Under the overview's headings."""
    series: Series
    stroke: str
    seeds: int
    score: Measured
    worst: float | None
    of_mean: float | None
    own: Measured
    """On own test samples."""
    consensus: float | None
    sent: float | None
    time: float | None
    traffic: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """What a colour or a kind of line stands for."""

    label: str
    colour: str
    stroke: str


@dataclass(frozen=True, slots=True)
class Overview:
    """All rows of a page, and what they have in common."""

    headings: tuple[str, ...]
    rows: tuple[Row, ...]
    pooled: bool
    legend: tuple[tuple[LegendEntry, ...], ...]
    """One line for each tuple: colours, and where these are not all, kinds of lines."""

    @property
    def own(self) -> bool:
        """Whether any row has a score on own test samples."""
        return any(row.own.mean is not None for row in self.rows)

    @property
    def seeds(self) -> bool:
        """Whether any row is of more than one seed."""
        return any(row.seeds > 1 for row in self.rows)


def overview(runs: Sequence[Said], folders: Sequence[Path]) -> Overview:
    """Return the rows of (summary, tables of scenario.toml)."""
    found = experiments(runs)
    names = labels(found)
    pooled = len(runs) > ALONE_MAX
    if pooled:
        places: dict[Experiment, list[int]] = {}
        for place, experiment in enumerate(found):
            places.setdefault(experiment, []).append(place)
        groups = [tuple(places[experiment]) for experiment in _ordered(list(places))]
        titles = [names[group[0]] or runs[group[0]][0]["scenario"] for group in groups]
    else:
        groups = [(place,) for place in range(len(runs))]
        titles = _alone(names, [summary["seed"] for summary, _ in runs], folders)
    firsts = [found[group[0]] for group in groups]
    columns = _columns(firsts, [runs[group[0]][0]["seed"] for group in groups], pooled)
    colours, dashes, legend = _lines(firsts, titles, pooled)
    rows = [
        _row(
            Series(title, (pooled_curve if pooled else _own_curve)(summaries), colours[index], dashes[index]),
            group,
            tuple(of(index) for of in columns.values()),
            summaries,
            None if pooled else summaries[0]["score"]["std"],
        )
        for index, (title, group) in enumerate(zip(titles, groups, strict=True))
        for summaries in [[runs[place][0] for place in group]]
    ]
    return Overview(tuple(columns), tuple(rows), pooled, legend)


def _alone(names: Sequence[str], seeds: Sequence[int], folders: Sequence[Path]) -> list[str]:
    """Return distinct names of single runs: the seed is added where it matters, the folder where it does not help."""
    if len(set(seeds)) > 1 or not all(names):
        names = [
            " · ".join(filter(None, (name, f"seed {seed}"))) for name, seed in zip(names, seeds, strict=True)
        ]
    told = list(names)
    for depth in (1, 2, 3):
        counts = Counter(told)
        told = [
            f"{name} ({'/'.join(folder.absolute().parts[-depth:])})" if counts[label] > 1 else label
            for name, label, folder in zip(names, told, folders, strict=True)
        ]
    return told


def _ordered(found: Sequence[Experiment]) -> list[Experiment]:
    """Return the experiments by rule, as the rules first come, and for each of them what nobody attacked first."""
    rules = list(dict.fromkeys(experiment.row for experiment in found))
    return sorted(found, key=lambda experiment: (rules.index(experiment.row), experiment.attack != NOBODY))


def _columns(
    found: Sequence[Experiment], seeds: Sequence[int], pooled: bool
) -> dict[str, Callable[[int], str]]:
    """Return heading -> the cell of each row, of what differs only; the rule and the attack stand first."""
    others = [name for name, _ in found[0].others]
    columns: dict[str, Callable[[int], str]] = {}
    for name in (name for name in others if name in FIRST):
        columns[name] = lambda row, name=name: dict(found[row].others)[name]  # type: ignore[misc]
    if len({e.rule for e in found}) > 1:
        columns["merge rule"] = lambda row: found[row].rule
    if len({e.attack for e in found}) > 1:
        columns["attack"] = lambda row: found[row].attack
    if found[0].honest is not None:
        columns["honest peers"] = lambda row: str(found[row].honest)
    for name in (name for name in others if name not in FIRST):
        columns[name] = lambda row, name=name: dict(found[row].others)[name]  # type: ignore[misc]
    if not pooled and len(set(seeds)) > 1:
        columns["seed"] = lambda row: str(seeds[row])
    return columns


def _lines(
    found: Sequence[Experiment], titles: Sequence[str], pooled: bool
) -> tuple[list[str], list[str], tuple[tuple[LegendEntry, ...], ...]]:
    """Return each row's colour and dash: where they fit, colours tell the rules and dashes the attacks."""
    rules = list(dict.fromkeys(e.row for e in found))
    attacks = list(dict.fromkeys(e.column for e in found))
    if pooled and 1 < len(rules) <= len(COLOURS) and 1 < len(attacks) <= len(DASHES):
        legend = (
            tuple(LegendEntry(rule, COLOURS[i], STROKES["-"]) for i, rule in enumerate(rules)),
            tuple(LegendEntry(name, "#22272e", STROKES[DASHES[i]]) for i, name in enumerate(attacks)),
        )
        colours = [COLOURS[rules.index(e.row)] for e in found]
        return colours, [DASHES[attacks.index(e.column)] for e in found], legend
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(found))]
    dashes = [DASHES[i // len(COLOURS) % len(DASHES)] for i in range(len(found))]
    entries = zip(titles, colours, dashes, strict=True)
    return colours, dashes, (tuple(LegendEntry(t, c, STROKES[d]) for t, c, d in entries),)


def _own_curve(found: Sequence[Summary]) -> Sequence[Mapping[str, Any]]:
    curve: Sequence[Mapping[str, Any]] = found[0]["curve"]
    return curve


def _row(
    series: Series,
    places: tuple[int, ...],
    cells: tuple[str, ...],
    found: Sequence[Summary],
    std: float | None,
) -> Row:
    scores = by_seed(found, lambda s: s["score"]["mean"])
    kinds = dict.fromkeys(kind for summary in found for kind in summary["bytes"]["by_type"])
    return Row(
        label=series.label,
        runs=places,
        cells=cells,
        series=series,
        stroke=STROKES[series.dash],
        seeds=len({summary["seed"] for summary in found}),
        score=Measured(_mean(scores), float(np.std(scores)) if len(scores) > 1 else std),
        worst=_mean(by_seed(found, lambda s: s["score"]["worst"])),
        of_mean=_mean(by_seed(found, lambda s: s["score_of_mean"])),
        own=_own(found),
        consensus=_mean(by_seed(found, lambda s: s["consensus_distance"])),
        sent=_mean(by_seed(found, lambda s: s["bytes"]["total"])),
        time=_mean(by_seed(found, lambda s: s["time"])),
        traffic={
            kind: float(np.mean([summary["bytes"]["by_type"].get(kind, 0) for summary in found]))
            for kind in kinds
        },
    )


def _own(found: Sequence[Summary]) -> Measured:
    """Return the score on own test samples; ± as beside it, over the seeds, or of one run over its peers."""
    scored = [summary for summary in found if "own_score" in summary]
    scores = by_seed(scored, lambda s: s["own_score"]["mean"])
    alone = scored[0]["own_score"]["std"] if len(scored) == 1 else None
    return Measured(_mean(scores), float(np.std(scores)) if len(scores) > 1 else alone)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
