"""Figures about attacks: what became of each peer's models over time, and which rule stood which attack."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from gossip.learning.objectives.score import Score
from scenarios.reports.document.attacks import VerdictsByPeer
from scenarios.reports.figures import INK, drawing
from scenarios.reports.series import ACCENT, COLOURS

ATTACKER = COLOURS[1]

SENDERS_DRAWN_MAX = 60
"""More rows than can be told apart."""

CELLS_NAMED_MAX = 200
"""A larger matrix is read by colour alone."""

LETTER_INCHES = 0.085
"""Width of a letter of the names, on average."""


def weights(told: VerdictsByPeer, attackers: Sequence[str]) -> Figure | None:
    """Mean weight that honest peers gave each sender's models, by round; None where nobody told."""
    senders, rounds = _axes(told)
    if not senders:
        return None
    with drawing() as (figure, axes):
        named: set[bool] = set()
        for sender in senders:
            attacks = sender in attackers
            line = [(r, np.mean([w for w, _ in told[sender, r]])) for r in rounds if (sender, r) in told]
            label = None if attacks in named else ("an attacker each" if attacks else "an honest peer each")
            named.add(attacks)
            axes.plot(
                [r for r, _ in line],
                [w for _, w in line],
                "--" if attacks else "-",
                color=ATTACKER if attacks else ACCENT,
                alpha=0.9 if attacks else 0.55,
                linewidth=1.5 if attacks else 1.1,
                marker="." if len(line) < 3 else None,
                label=label,
            )
        axes.set(xlabel="round", ylabel="weight in a merge, mean of the honest peers")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(loc="outside upper left", ncols=2, fontsize=8.5)
        return figure


def verdicts(told: VerdictsByPeer, attackers: Sequence[str]) -> Figure | None:
    """Sender by round: the share of the honest peers that left its model out; None where nobody told."""
    senders, rounds = _axes(told)
    if not senders or len(senders) > SENDERS_DRAWN_MAX:
        return None
    ordered = [*[s for s in senders if s not in attackers], *[s for s in senders if s in attackers]]
    out = np.full((len(ordered), len(rounds)), np.nan)
    for row, sender in enumerate(ordered):
        for column, number in enumerate(rounds):
            entries = told.get((sender, number), ())
            if entries:
                out[row, column] = np.mean([weight == 0 for weight, _ in entries])
    with drawing(height=max(2.4, 1.0 + 0.2 * len(ordered))) as (figure, axes):
        shades = LinearSegmentedColormap.from_list(
            "left out", ["#e8f1f5", "#f0c9bd", ATTACKER]
        ).with_extremes(bad="#ffffff")
        image = axes.imshow(out, aspect="auto", cmap=shades, vmin=0, vmax=1, interpolation="nearest")
        axes.set_yticks(range(len(ordered)), [sender.removeprefix("peer-") for sender in ordered])
        for label, sender in zip(axes.get_yticklabels(), ordered, strict=True):
            label.set_color(ATTACKER if sender in attackers else INK)
        places = np.unique(np.linspace(0, len(rounds) - 1, min(len(rounds), 10)).astype(int))
        axes.set_xticks(places, [str(rounds[place]) for place in places])
        axes.set(xlabel="round", ylabel="sender")
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        bar = figure.colorbar(image, ax=axes, aspect=22, format=PercentFormatter(1.0, decimals=0))
        bar.set_label("of the honest peers left it out")
        bar.outline.set_visible(False)
        return figure


def matrix(
    values: NDArray[np.float64], rules: Sequence[str], attacks: Sequence[str], score: Score
) -> Figure | None:
    """Honest scores (rules, attacks) as a heat map; None where there is only one of both, or scores are no shares.

    Its cells hold numbers; where these are too many, a scale stands beside it.
    """
    if len(rules) * len(attacks) < 2 or not score.percent:
        return None
    # Room for the names: of the rules beside it, of the attacks, slanted, above it and beyond its right end.
    beside, above = (LETTER_INCHES * max(map(len, names)) for names in (rules, attacks))
    width = min(14.0, 0.6 + beside + max(0.72 * len(attacks), 0.75 * above))
    with drawing(width=width, height=0.4 + 0.65 * above + 0.34 * len(rules)) as (figure, axes):
        shades = LinearSegmentedColormap.from_list(
            "accuracy", ["#b5452c", "#f3e3d3", "#d3e5ec", ACCENT]
        ).with_extremes(bad="#ffffff")
        image = axes.imshow(values, aspect="auto", cmap=shades, vmin=0, vmax=1, interpolation="nearest")
        axes.set_yticks(range(len(rules)), rules)
        axes.set_xticks(range(len(attacks)), attacks, rotation=40, ha="left", rotation_mode="anchor")
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        for (row, column), value in np.ndenumerate(values):
            if not np.isnan(value) and values.size <= CELLS_NAMED_MAX:
                dark = value < 0.22 or value > 0.8
                axes.text(
                    column,
                    row,
                    f"{100 * value:.0f}",
                    ha="center",
                    va="center",
                    fontsize=8.5,
                    color="white" if dark else INK,
                )
        if values.size > CELLS_NAMED_MAX:
            bar = figure.colorbar(image, ax=axes, aspect=22, format=PercentFormatter(1.0, decimals=0))
            bar.set_label(score.label)
            bar.outline.set_visible(False)
        return figure


def _axes(told: VerdictsByPeer) -> tuple[list[str], list[int]]:
    return sorted({sender for sender, _ in told}), sorted({number for _, number in told})
