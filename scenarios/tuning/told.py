"""A study in words: its rows, what was measured on what, and the line that uses its best; the page and the terminal say
the same.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gossip.learning.objectives.score import ACCURACY
from scenarios.reports.differences import short_names
from scenarios.reports.terminal import written
from scenarios.tuning.study import START, HeldOut, Study, Trial

TRIALS_SHOWN = 30
"""Rows of a terminal; the page has them all."""


WIDTH = 120
"""Of what is printed to a file or a pipe, which has no width of its own."""


@dataclass(frozen=True, slots=True)
class Row:
    """One trial."""

    trial: Trial
    cells: tuple[str, ...]
    """Values of the tuned settings, under `headings`."""
    mark: str
    """"start", "best", both or neither."""


def keys(study: Study) -> list[str]:
    """Return the settings that any method tunes."""
    return list(dict.fromkeys(p.key for method in study.asked.methods for p in method.space))


def headings(study: Study) -> list[str]:
    """Return the tuned settings' short names."""
    return short_names(keys(study))


def rows(study: Study) -> list[Row]:
    """Return all trials, method by method."""
    found = []
    for method in study.asked.methods:
        best = study.best(method.name)
        for trial in study.of(method.name):
            marks = ["start"] * (trial.number == START) + ["best"] * (trial is best)
            cells = tuple(written(trial.params.get(key)) for key in keys(study))
            found.append(Row(trial, cells, ", ".join(marks)))
    return found


def scored_on(study: Study) -> str:
    """Say what the scores are."""
    asked = study.asked
    seeds, label = named(asked.tuning_seeds), asked.scored.label
    less = "" if asked.scored.higher_is_better else " (less is better)"
    whose = "each class's training samples" if asked.scored == ACCURACY else "the training samples"
    if not asked.validation:
        return (
            f"score: mean final {label}{less} over the tuning {seeds}, on the test samples: nothing was set aside, so "
            "the scores and the held-out seeds have seen the same samples"
        )
    return (
        f"score: mean final {label}{less} over the tuning {seeds}, on {100 * asked.validation:g} % of {whose}, "
        "set aside by the seed; the test samples had no part in it"
    )


def held_out_on(study: Study) -> str:
    """Say what the held-out scores are."""
    return (
        f"held out: the start and the best with {named(study.asked.held_out_seeds)}, which chose nothing, with "
        "all training samples, on the test samples"
    )


def named(seeds: Sequence[int]) -> str:
    """Return e.g. ``seed 0``, ``seeds 0, 1`` or ``seeds 2-4``."""
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"seeds {seeds[0]}-{seeds[-1]}"
    return "seeds " + ", ".join(str(seed) for seed in seeds)


def held(study: Study, method: str, trial: Trial | None) -> HeldOut | None:
    """Return what the held-out seeds say of a trial, where they have met it."""
    return next(
        (e for e in study.held_out.get(method, ()) if trial is not None and e.trial == trial.number), None
    )


def mean_std(study: Study, found: HeldOut | None) -> str:
    """Return e.g. ``93.1 ± 0.4 %``, over the seeds; of one seed there is no deviation."""
    scored = study.asked.scored
    if found is None or len(found.scores) == 1:
        return scored.told(None if found is None else found.mean)
    if scored.percent:
        return f"{100 * found.mean:.1f} ± {100 * found.std:.1f} %"
    return f"{scored.told(found.mean)} ± {scored.spread(found.std)}"


def gain(study: Study, method: str) -> str | None:
    """Say how much better the best is than the start on the held-out seeds; None where that is not known."""
    trials, best = study.of(method), study.best(method)
    start, found = held(study, method, trials[START] if trials else None), held(study, method, best)
    if best is None or start is None or found is None:
        return None
    if best.number == START:
        return "nothing found was better than the scenario as it stands"
    scored, more = study.asked.scored, found.mean - start.mean
    if scored.percent:
        return f"{100 * more:+.1f} points on the held-out seeds"
    verdict = "better" if scored.better(found.mean, start.mean) else "no better"
    return f"{scored.label} {more:+.3g}, {verdict}, on the held-out seeds"


def use(study: Study, trial: Trial) -> str:
    """Return the command that runs a trial's settings."""
    told = [part for setting in trial.settings for part in ("--set", setting)]
    return shlex.join(["gossip-scenario", "run", study.asked.scenario, *told])


def progress_told(study: Study) -> str | None:
    """Say how far an unfinished study has come; None of a finished one."""
    if study.done:
        return None
    count, of = len(study.trials), study.wanted * len(study.asked.methods)
    return f"unfinished: {count} of {of} trials; the same command goes on"


def as_table(study: Study) -> dict[str, Any]:
    """Return the study for programs."""
    methods = {}
    for method in study.asked.methods:
        best = study.best(method.name)
        methods[method.name] = {
            "trials": [_as_table(study, trial) for trial in study.of(method.name)],
            "best": None if best is None else best.number,
            "use": None if best is None else list(best.settings),
            "held_out": [
                {**_as_table(study, each), "mean": each.mean, "std": each.std}
                for each in study.held_out.get(method.name, ())
            ],
        }
    champion = study.champion()
    return {
        **{key: value for key, value in study.asked.as_table().items() if key != "methods"},
        "folder": str(study.folder),
        "trials": study.wanted,
        "done": study.done,
        "best": None if champion is None else champion.method,
        "methods": methods,
    }


def _as_table(study: Study, found: Trial | HeldOut) -> dict[str, Any]:
    """Return its fields; where scores are accuracies, under that name as well."""
    return {**asdict(found), **({"accuracies": found.scores} if study.asked.scored == ACCURACY else {})}


def print_study(console: Console, study: Study, *, every_trial: bool, page: str) -> None:
    """Print the methods, what was measured on what, where the page is, and last the line that uses the best."""
    asked = study.asked
    if not console.is_terminal:
        console.width = WIDTH
    count = f"{study.wanted} trials" + (" each" if len(asked.methods) > 1 else "")
    console.print(f"{asked.name}: {count}, seed {asked.seed}", style="bold", highlight=False)
    if every_trial:
        console.print(_trials_table(study))
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("method", "start", "best", "held out: start", "held out: best", "seconds"):
        table.add_column(name, justify="left" if name == "method" else "right", no_wrap=True)
    for method in asked.methods:
        trials, best = study.of(method.name), study.best(method.name)
        start = trials[START] if trials else None
        table.add_row(
            method.name,
            asked.scored.told(start.score if start else None),
            asked.scored.told(best.score if best else None) + (f" (trial {best.number})" if best else ""),
            mean_std(study, held(study, method.name, start)),
            mean_std(study, held(study, method.name, best)),
            f"{sum(trial.seconds for trial in trials):.0f}",
        )
    console.print(table)
    for line in (scored_on(study), held_out_on(study), progress_told(study)):
        if line is not None:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    champion = study.champion()
    for method in asked.methods:
        told, best = gain(study, method.name), study.best(method.name)
        if told is not None and best is not None:
            console.print(f"{method.name}: {told}", markup=False, highlight=False, soft_wrap=True)
            if best is not champion:
                console.print(f"  {use(study, best)}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"report: {page}", markup=False, highlight=False, soft_wrap=True)
    if champion is not None:
        console.print(
            f"to use the best: {use(study, champion)}", markup=False, highlight=False, soft_wrap=True
        )


def _trials_table(study: Study) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    several = len(study.asked.methods) > 1
    for name in (
        *(["method"] if several else []),
        "trial",
        *headings(study),
        "score",
        "worst",
        "MB",
        "s",
        "",
    ):
        table.add_column(name, justify="left" if name in ("method", "") else "right", no_wrap=bool(name))
    for row in _shown(study, rows(study)):
        trial = row.trial
        table.add_row(
            *([trial.method] if several else []),
            str(trial.number),
            *row.cells,
            study.asked.scored.told(trial.score),
            study.asked.scored.told(trial.worst),
            "–" if trial.megabytes is None else f"{trial.megabytes:.1f}",
            f"{trial.seconds:.0f}",
            Text(trial.error or row.mark),
        )
    return table


def _shown(study: Study, found: Sequence[Row]) -> list[Row]:
    """Return all rows, or of too many those with the best scores and every start."""
    if len(found) <= TRIALS_SHOWN:
        return list(found)
    sign = -1.0 if study.asked.scored.higher_is_better else 1.0

    def rank(row: Row) -> tuple[bool, bool, float]:
        score = row.trial.score
        return not row.mark, score is None, 0.0 if score is None else sign * score

    ranked = sorted(found, key=rank)[:TRIALS_SHOWN]
    return [row for row in found if row in ranked]
