"""Figures for paper, drawn by matplotlib: what `gossip-scenario report --svg` and `--pdf` write."""

from __future__ import annotations

import base64
import io
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import networkx as nx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter
from numpy.typing import NDArray

from gossip.learning.objectives.score import Score
from gossip.telemetry.progress import human_bytes
from scenarios.reports.series import ACCENT, COLOURS, Series

INK, FAINT = "#22272e", "#d9dee3"

DRAWN_PEERS_MAX = 400
"""A larger graph is a blot."""

NAMED_PEERS_MAX = 40

DRAWN_LINES_MAX = 100

BANDS_MAX = 9
"""More bands are a fog; the table has the same numbers."""

AVERAGES_MAX = 6
"""As many dotted lines beside the others."""

STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#8a949e",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.9,
    "svg.hashsalt": "gossip",
    "text.color": INK,
    "xtick.color": "#56606a",
    "ytick.color": "#56606a",
}


def scores(runs: Sequence[Series], score: Score) -> Figure:
    """Mean score of the peers' own models with the curve's range, and that of their average."""
    one = len(runs) == 1
    with drawing() as (figure, axes):
        lowest = 1.0
        for run in runs:
            x, mean = _points(run, "score_mean")
            axes.plot(x, mean, run.dash, color=run.colour, label="own models, mean" if one else run.label)
            _, low = _points(run, "score_min")
            _, high = _points(run, "score_max")
            if len(low) == len(high) == len(x) and len(runs) <= BANDS_MAX:
                band: dict[str, Any] = {"color": run.colour, "alpha": 0.14, "linewidth": 0}
                axes.fill_between(x, low, high, label="own models, worst to best" if one else None, **band)
            lowest = min([lowest, *low, *mean])
            if averages_drawn(runs):
                x, of_mean = _points(run, "score_of_mean")
                colour = INK if one else run.colour
                axes.plot(
                    x,
                    of_mean,
                    ":",
                    color=colour,
                    linewidth=1.4,
                    label="average of all models" if one else None,
                )
        axes.set(xlabel="round", ylabel=f"{score.label} on the common test set")
        if score.percent:
            axes.set_ylim(max(0.0, lowest - 0.03), 1.005)
        _format(axes.yaxis, score)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        # Outside: wherever it stood within, there would be runs that pass beneath it.
        figure.legend(loc="outside upper left", ncols=3 if one else 1, fontsize=8.5, columnspacing=1.2)
        return figure


def averages_drawn(runs: Sequence[Series]) -> bool:
    """Whether the dotted line of the average model would be told from the others."""
    return len(runs) <= AVERAGES_MAX and all(run.dash == "-" for run in runs)


def every_peer(
    metrics: Sequence[Mapping[str, Any]], curve: Sequence[Mapping[str, Any]], score: Score
) -> Figure | None:
    """Score of each peer's own model by round, and their mean; None where there are too many lines."""
    lines: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for entry in metrics:
        if entry.get("score") is not None:
            lines[entry["peer"]].append((entry["round"], entry["score"]))
    if not 1 < len(lines) <= DRAWN_LINES_MAX:
        return None
    with drawing() as (figure, axes):
        for index, line in enumerate(lines.values()):
            label = "one peer each" if index == 0 else None
            axes.plot(*zip(*line, strict=True), color="#7d8894", alpha=0.55, linewidth=0.8, label=label)
        x, mean = _points(Series("", curve), "score_mean")
        axes.plot(x, mean, color=ACCENT, label="mean")
        axes.set(xlabel="round", ylabel=f"{score.label} on the common test set")
        _format(axes.yaxis, score)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(loc="outside upper left", ncols=2, fontsize=8.5)
        return figure


def consensus(runs: Sequence[Series]) -> Figure | None:
    """Distance of the models from their mean, on a logarithmic scale; None where no run has any."""
    with drawing() as (figure, axes):
        drawn = False
        for run in runs:
            x, y = _points(run, "consensus_distance")
            # One peer alone, or all equal, is at distance zero, which has no logarithm.
            kept = [(a, b) for a, b in zip(x, y, strict=True) if b > 0]
            if kept:
                axes.plot(*zip(*kept, strict=True), run.dash, color=run.colour, label=run.label)
                drawn = True
        if not drawn:
            return None
        axes.set(xlabel="round", ylabel="consensus distance  √(mean ‖xᵢ − x̄‖²)", yscale="log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        low, high = axes.get_ylim()
        # Within a decade or two, powers of ten alone would leave the axis without a number.
        axes.yaxis.set_major_locator(LogLocator(subs=_steps(high / low), numticks=12))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        _tell_apart(figure, runs)
        return figure


def cost(runs: Sequence[Series], score: Score, *, senders: str = "all peers") -> Figure | None:
    """Mean score against what `senders` have sent together: what a run bought with its bytes."""
    with drawing() as (figure, axes):
        most = 0.0
        for run in runs:
            points = [p for p in run.curve if p.get("score_mean") is not None and p.get("bytes")]
            x = [point["bytes"] for point in points]
            axes.plot(
                x, [point["score_mean"] for point in points], run.dash, color=run.colour, label=run.label
            )
            most = max([most, *x])
        if not most:
            return None
        axes.set(xlabel=f"sent by {senders} together", ylabel=f"{score.label}, mean of own models")
        axes.set_xlim(left=0)
        _format(axes.yaxis, score)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _round_bytes(value)))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        _tell_apart(figure, runs)
        return figure


def traffic(runs: Sequence[tuple[Series, Mapping[str, float]]]) -> Figure | None:
    """Bytes by message type, one bar per run and type; None where nothing was sent."""
    together: Counter[str] = Counter()
    for _, counts in runs:
        for kind, count in counts.items():
            together[kind] += round(count)
    kinds = [kind for kind, count in together.most_common() if count]
    if not kinds:
        return None
    rows = len(kinds) * len(runs)
    with drawing(height=0.9 + 0.3 * rows + 0.2 * len(kinds)) as (figure, axes):
        width = 0.8 / len(runs)
        most = max(max(counts.values(), default=0) for _, counts in runs)
        for index, (run, counts) in enumerate(runs):
            places = np.arange(len(kinds)) + (index - (len(runs) - 1) / 2) * width
            values = [counts.get(kind, 0) for kind in kinds]
            hatch = {"-": None, "--": "//", "-.": "..", ":": "xx"}[run.dash]
            axes.barh(
                places, values, width * 0.85, color=run.colour, hatch=hatch, edgecolor="white", linewidth=0
            )
            for place, value in zip(places, values, strict=True):
                axes.text(value + most * 0.01, place, human_bytes(value), va="center", fontsize=8.5)
        axes.set_yticks(range(len(kinds)), kinds)
        axes.invert_yaxis()
        axes.set_xlim(0, most * 1.16)
        axes.set_xlabel("sent by all peers together")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _round_bytes(value)))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(visible=False, axis="y")
        return figure


def network(
    graph: nx.Graph[str], finals: Mapping[str, float], score: Score, attackers: Collection[str] = ()
) -> Figure | None:
    """The graph, peers coloured by their final score, attackers red; None where it is too large to be seen."""
    peers = sorted(graph)
    if not peers or len(peers) > DRAWN_PEERS_MAX:
        return None
    with drawing(width=5.4, height=4.6) as (figure, axes):
        places = _places(graph, peers)
        edges = graph.number_of_edges()
        nx.draw_networkx_edges(
            graph, places, ax=axes, edge_color="#9aa5b1", width=1.0 if edges < 200 else 0.4, alpha=0.8
        )
        values = np.array([finals.get(peer, np.nan) for peer in peers])
        known = values[~np.isnan(values)]
        bottom, top = _span(known, score)
        xy = np.array([places[peer] for peer in peers])
        colours = ["#e8f1f5", ACCENT] if score.higher_is_better else [ACCENT, "#e8f1f5"]
        shades = LinearSegmentedColormap.from_list("score", colours)
        size = 320 if len(peers) <= NAMED_PEERS_MAX else max(12, 6000 / len(peers))
        dots = axes.scatter(
            xy[:, 0],
            xy[:, 1],
            c=values,
            s=size,
            cmap=shades,
            vmin=bottom,
            vmax=top,
            edgecolors=INK,
            linewidths=0.8,
            zorder=3,
        )
        unknown = np.isnan(values)
        axes.scatter(
            xy[unknown, 0],
            xy[unknown, 1],
            s=size,
            c=[COLOURS[1] if peer in attackers else "white" for peer in np.array(peers)[unknown]],
            edgecolors=INK,
            linewidths=0.8,
            zorder=3,
        )
        if len(peers) <= NAMED_PEERS_MAX:
            middle, up = (bottom + top) / 2, score.higher_is_better
            good = {peer for peer, value in zip(peers, values, strict=True) if (value > middle) == up}
            dark = good | {peer for peer in peers if peer in attackers}
            _name(axes, dict(zip(peers, xy, strict=True)), dark)
        if known.size:
            form = PercentFormatter(1.0, decimals=1) if score.percent else None
            bar = figure.colorbar(dots, ax=axes, shrink=0.7, aspect=22, format=form)
            bar.locator = MaxNLocator(5)
            bar.update_ticks()
            bar.set_label(f"final {score.label} of the peer's own model")
            bar.outline.set_visible(False)
        axes.set_aspect("equal")
        axes.margins(0.08)
        axes.axis("off")
        return figure


def _span(known: NDArray[np.float64], score: Score) -> tuple[float, float]:
    """Return the ends of a scale of colours: a narrower one would colour noise, and the best is at its dark end."""
    if not known.size:
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    least = 0.02 if score.percent else 0.02 * max(abs(low), abs(high))
    return (min(low, high - least), high) if score.higher_is_better else (low, max(high, low + least))


def _format(axis: Axis, score: Score) -> None:
    if score.percent:
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _name(axes: Axes, places: Mapping[str, Any], dark: Collection[str]) -> None:
    """Write the peers' names into their dots, in white where those are dark."""
    for peer, place in places.items():
        axes.annotate(
            peer.removeprefix("peer-"),
            place,
            ha="center",
            va="center",
            fontsize=7.5,
            color="white" if peer in dark else INK,
            zorder=4,
        )


def _places(graph: nx.Graph[str], peers: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Place the peers clockwise on a circle from the top; a star's hub in the middle."""
    degrees = dict(graph.degree())
    hubs = (
        [peer for peer in peers if degrees[peer] == len(peers) - 1 > 2] if min(degrees.values()) == 1 else []
    )
    outer = [peer for peer in peers if peer not in hubs]
    angles = np.pi / 2 - 2 * np.pi * np.arange(len(outer)) / len(outer)
    circle = {peer: (float(np.cos(a)), float(np.sin(a))) for peer, a in zip(outer, angles, strict=True)}
    return circle | dict.fromkeys(hubs, (0.0, 0.0))


def _steps(span: float) -> tuple[float, ...]:
    """Return what a logarithmic axis of so many times its lowest value numbers in each decade."""
    if span < 10:
        return (1, 1.5, 2, 3, 4, 5, 7)
    return (1, 2, 5) if span < 200 else (1,)


def _points(run: Series, key: str) -> tuple[list[int], list[float]]:
    points = [point for point in run.curve if point.get(key) is not None]
    return [point["round"] for point in points], [point[key] for point in points]


@contextmanager
def drawing(*, width: float = 6.4, height: float = 3.8) -> Iterator[tuple[Figure, Axes]]:
    # No pyplot: it keeps state of its own and may look for a display.
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        yield figure, figure.subplots()


def _tell_apart(figure: Figure, runs: Sequence[Series]) -> None:
    if len(runs) > 1:
        figure.legend(loc="outside upper left", fontsize=8.5)


def _round_bytes(value: float) -> str:
    return human_bytes(value).replace(".0 ", " ")


def address(figure: Figure) -> str:
    target = io.BytesIO()
    figure.savefig(target, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(target.getvalue()).decode("ascii")
