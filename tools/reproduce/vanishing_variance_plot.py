"""The picture of `vanishing_variance.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vanishing_variance_arms import ARMS, DIRICHLET, LONG, PEERS, SHORT, Options, arms
from vanishing_variance_delays import depths, sizes
from vanishing_variance_figures import shown

COLOURS = dict(
    zip(ARMS, ("#c0392b", "#1f77b4", "#555555", "#17a589", "#8e44ad", "#76b7e5", "#e59866"), strict=True)
)
STYLES = dict(zip(ARMS, ("-", "-", "-", "--", "--", "-", "--"), strict=True))


def plot(options: Options) -> dict[str, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(11, 8), layout="constrained")
    for axis, more, title in (
        (axes[0, 0], {}, "all peers draw from all samples"),
        (axes[0, 1], DIRICHLET, "Dirichlet 0.5"),
    ):
        for name, runs in arms(options, more).items():
            for number, run in enumerate(runs):
                axis.plot(
                    [point["time"] for point in run["points"]],
                    [point["own"] for point in run["points"]],
                    STYLES[name],
                    color=COLOURS[name],
                    alpha=0.8,
                    linewidth=1.2,
                    label=None if number else name,
                )
        axis.set(
            title=f"{PEERS} peers, {title}",
            xlabel="virtual seconds",
            ylabel="mean accuracy of own models",
            ylim=(0, 1),
        )
        axis.legend(fontsize=8, loc="lower right", bbox_to_anchor=(1, 0.13))
    variances(axes[1, 0], arms(options, {}))
    bars(axes[1, 1], [sizes(options), depths(options)])
    file = options.out / "vanishing-variance.png"
    figure.savefig(file, dpi=110)
    return {"file": str(file)}


def variances(axis: Any, found: dict[str, list[dict[str, Any]]]) -> None:
    for name in (LONG, SHORT, "common, plain"):
        for number, run in enumerate(found[name]):
            for layer in range(4):
                axis.plot(
                    [0.0, *(point["time"] for point in run["points"])],
                    [1.0, *(point["ratios"][layer] for point in run["points"])],
                    STYLES[name],
                    color=COLOURS[name],
                    alpha=0.5,
                    linewidth=0.9,
                    label=None if number or layer else name,
                )
    axis.axhline(1 / PEERS, color="black", linewidth=0.8, linestyle="--")
    axis.text(1990, 0.93 / PEERS, "1 / n", ha="right", va="top", fontsize=8)
    axis.set(
        yscale="log",
        title="variance of each weight tensor, beside the starts'",
        xlabel="virtual seconds",
        ylabel="ratio, mean of all peers",
    )
    axis.legend(fontsize=8, loc="center right")


def bars(axis: Any, tables: Sequence[dict[str, Any]]) -> None:
    labels, limit = [], tables[0]["until_s"]
    for table in tables:
        for row in table["rows"]:
            if row["variant"] not in labels:
                labels.append(row["variant"])
            place = labels.index(row["variant"]) + (-0.2 if row["arm"] == LONG else 0.2)
            value = row["to 0.5"]
            axis.bar(
                place,
                limit if value is None else value,
                0.38,
                color=COLOURS[row["arm"]],
                hatch="//" if value is None else None,
                alpha=0.85,
            )
            axis.text(
                place,
                limit if value is None else value,
                shown(value, limit),
                ha="center",
                va="bottom",
                fontsize=8,
            )
    axis.set(yscale="log", title="until 0.5, from independent starts", ylabel="virtual seconds")
    axis.set_ylim(100, 2 * limit)
    axis.set_xticks(range(len(labels)), labels, fontsize=8)
    for arm in (LONG, SHORT):
        axis.bar(0, 0, color=COLOURS[arm], label=arm)
    axis.legend(fontsize=8, loc="upper left")
