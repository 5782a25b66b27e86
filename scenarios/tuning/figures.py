"""The figures of a study's page, in the look of a run's."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, PercentFormatter

from gossip.learning.objectives.score import Score
from scenarios.reports.differences import short_names
from scenarios.reports.figures import INK, STYLE, address, drawing
from scenarios.reports.series import COLOURS
from scenarios.reports.terminal import written
from scenarios.tuning.space import Parameter
from scenarios.tuning.study import START, Study, Trial

SPAN = 0.3
"""Shares further below the best than this are drawn at the lower edge: they are bad, and how bad says nothing."""

SPAN_MEDIANS = 4
"""Of scores that are no shares: so many times as far from the best as half of them are."""

COLUMNS_MAX = 3
"""Charts beside each other."""


def colours(study: Study) -> dict[str, str]:
    """Return a colour for each method."""
    return {method.name: COLOURS[i % len(COLOURS)] for i, method in enumerate(study.asked.methods)}


def progress(study: Study) -> str | None:
    """Return each trial's score and the best so far, by trial; None where there is no score."""
    if study.champion() is None:
        return None
    low, high = _limits(study)
    with drawing() as (figure, axes):
        for name, colour in colours(study).items():
            trials = [trial for trial in study.of(name) if trial.score is not None]
            chosen = max if study.asked.scored.higher_is_better else min
            best = list(accumulate((trial.score for trial in trials if trial.score is not None), chosen))
            numbers = [trial.number for trial in trials]
            axes.step(numbers, best, where="post", color=colour, label="best so far")
            _dots(axes, numbers, trials, colour, study)
        axes.set(xlabel="trial", ylabel=_label(study))
        _score_axis(axes, low, high, study.asked.scored)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(study.asked.methods) == 1:
            figure.legend(loc="outside upper left", ncols=2, fontsize=8.5)
        return address(figure)


def parameters(study: Study) -> str | None:
    """Return the scores against each tuned setting, one chart each; None where there is no score."""
    if study.champion() is None:
        return None
    tuned: dict[str, Parameter] = {}
    for method in study.asked.methods:
        tuned |= {parameter.key: parameter for parameter in method.space if parameter.key not in tuned}
    low, high = _limits(study)
    with _charts(len(tuned)) as (figure, charts):
        for axes, (key, name), parameter in zip(
            charts, zip(tuned, short_names(list(tuned)), strict=True), tuned.values(), strict=True
        ):
            for whose, colour in colours(study).items():
                trials = [t for t in study.of(whose) if t.score is not None and t.params.get(key) is not None]
                _dots(axes, [_place(parameter, trial) for trial in trials], trials, colour, study)
                best = study.best(whose)
                if best is not None and best.score is not None and best in trials:
                    place = [_place(parameter, best)]
                    axes.scatter(
                        place, [best.score], s=150, marker="*", color=colour, edgecolors=INK, zorder=5
                    )
            axes.set_xlabel(name)
            _score_axis(axes, low, high, study.asked.scored)
            if parameter.choices:
                axes.set_xticks(range(len(parameter.choices)), parameter.choices)
                axes.set_xlim(-0.5, len(parameter.choices) - 0.5)
            elif parameter.log:
                _log_axis(axes)
            elif parameter.whole:
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        charts[0].set_ylabel(_label(study))
        return address(figure)


def judged(study: Study) -> str | None:
    """Return the held-out scores of every method's start and best, a dot per seed; None where there are none."""
    rows = [
        (f"{name}, {'as it stands' if each.trial == START else f'trial {each.trial}'}", each, colour)
        for name, colour in colours(study).items()
        for each in study.held_out.get(name, ())
    ]
    if not rows:
        return None
    with drawing(height=0.9 + 0.42 * len(rows)) as (figure, axes):
        for place, (_, each, colour) in enumerate(rows):
            values = list(each.scores.values())
            filled = colour if each.trial != START else "white"
            axes.plot([min(values), max(values)], [place, place], color=colour, linewidth=1.2, alpha=0.6)
            axes.scatter(values, [place] * len(values), s=22, color=filled, edgecolors=colour, zorder=3)
            axes.scatter([each.mean], [place], s=110, marker="|", color=INK, linewidths=2.0, zorder=4)
        axes.set_yticks(range(len(rows)), [label for label, _, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(f"{study.asked.scored.label} on the test samples, held-out seeds")
        if study.asked.scored.percent:
            axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.grid(visible=False, axis="y")
        return address(figure)


def below(study: Study) -> int:
    """Return how many scores are too bad for the charts."""
    return sum(trial.score is not None and _outside(study, trial.score) for trial in study.trials)


def too_bad(study: Study) -> str:
    """Return in words which scores those are."""
    if study.asked.scored.percent:
        return f"more than {100 * SPAN:.0f} points below the best"
    return f"more than {SPAN_MEDIANS} times as far from the best as half of the trials"


def _limits(study: Study) -> tuple[float, float]:
    scores = [trial.score for trial in study.trials if trial.score is not None]
    high, low = max(scores), min(scores)
    scored = study.asked.scored
    best, span = high if scored.higher_is_better else low, SPAN
    if not scored.percent:
        span = SPAN_MEDIANS * statistics.median(abs(score - best) for score in scores) or high - low
    if scored.higher_is_better:
        low = low if high - low <= span else high - span
    else:
        high = high if high - low <= span else low + span
    margin = max(0.03 * (high - low), 0.002 if scored.percent else 1e-3 * abs(best), 1e-12)
    return (low - margin, high + 2 * margin) if scored.higher_is_better else (low - 2 * margin, high + margin)


def _outside(study: Study, score: float) -> bool:
    low, high = _limits(study)
    return score < low if study.asked.scored.higher_is_better else score > high


def _label(study: Study) -> str:
    scored = study.asked.scored
    return (
        "score"
        if scored.percent
        else f"{scored.label}{'' if scored.higher_is_better else ', less is better'}"
    )


def _dots(axes: Axes, places: Sequence[Any], trials: Sequence[Trial], colour: str, study: Study) -> None:
    """Draw the trials' scores: the start hollow, what is too bad for the chart as a triangle at its edge."""
    low, high = _limits(study)
    edge, mark = (low, "v") if study.asked.scored.higher_is_better else (high, "^")
    for is_start in (False, True):
        for under in (False, True):
            kept = [
                (place, trial.score)
                for place, trial in zip(places, trials, strict=True)
                if trial.score is not None
                and (trial.number == START) == is_start
                and _outside(study, trial.score) == under
            ]
            if kept:
                axes.scatter(
                    [place for place, _ in kept],
                    [edge if under else score for _, score in kept],
                    s=34,
                    marker=mark if under else "o",
                    color="white" if is_start else colour,
                    edgecolors=colour,
                    linewidths=1.3,
                    alpha=1.0 if is_start else 0.75,
                    clip_on=False,
                    zorder=4 if is_start else 3,
                )


def _score_axis(axes: Axes, low: float, high: float, scored: Score) -> None:
    axes.set_ylim(low, high)
    if scored.percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0 if high - low > 0.05 else 1))


def _log_axis(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: written(float(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _place(parameter: Parameter, trial: Trial) -> Any:
    value = trial.params[parameter.key]
    return parameter.choices.index(value) if value in parameter.choices else value


@contextmanager
def _charts(count: int) -> Iterator[tuple[Figure, list[Axes]]]:
    columns = min(count, COLUMNS_MAX)
    rows = -(-count // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.9 * columns + 0.4, 3.3 * rows))
        grid = figure.subplots(rows, columns, squeeze=False)
        charts = [axes for row in grid for axes in row]
        for axes in charts[count:]:
            axes.axis("off")
        yield figure, charts[:count]


def legend(study: Study) -> Mapping[str, str]:
    """Return the methods' colours where there are several to be told apart."""
    found = colours(study)
    return found if len(found) > 1 else {}
