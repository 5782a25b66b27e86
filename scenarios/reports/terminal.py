"""Results on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gossip.learning.objectives.score import ACCURACY, Score, score_in
from gossip.telemetry.progress import human_bytes
from scenarios.records import SweepRow
from scenarios.reports.differences import short_names

DEAD_SHOWN = 5
"""Mostly they have all died of one thing; report.html has them all."""

PEERS_SHOWN = 24
"""More rows than fit on a screen say less than the mean; report.html has them all."""


SWEEP_WIDTH_MAX = 400
"""Columns of a sweep's table in a file or a pipe, which have no width of their own."""

MEASURES_MIN = 3
"""The first measures of a sweep's table stay on the narrowest terminal."""


def print_result(
    console: Console, summary: Mapping[str, Any], peers: Sequence[Mapping[str, Any]], *, report: str | None
) -> None:
    """Print a table of the peers, what came out together, and where the report is."""
    console.print(_title(summary), style="bold", highlight=False, soft_wrap=True)
    console.print(_table(summary, peers))
    scored, score, sent = score_in(summary), summary["score"], summary["bytes"]
    for name, spread, note in _spreads(summary):
        shown = (
            f"  {name:<18} {scored.told(spread['mean'])} ± {scored.spread(spread['std'])} (min "
            f"{scored.told(spread['min'])}, max {scored.told(spread['max'])}){note}"
        )
        console.print(shown, highlight=False, soft_wrap=True)
        if spread is score:
            console.print(f"  their average      {scored.told(summary['score_of_mean'])}", highlight=False)
    if "privacy" in summary:
        console.print(
            f"  privacy            {told_privacy(summary['privacy'])}", highlight=False, soft_wrap=True
        )
    console.print(f"  consensus distance {_number(summary['consensus_distance'])}", highlight=False)
    console.print(
        f"  sent in all        {human_bytes(sent['total'])} in {summary['time']:.1f} s "
        f"(the whole run took {summary['wall_seconds']:.1f} s)",
        highlight=False,
    )
    _print_received(console, summary)
    for warning in summary["warnings"]:
        # A user's file may be named in it, in brackets.
        console.print(
            f"  warning            {warning}", style="red", markup=False, highlight=False, soft_wrap=True
        )
    for peer in [peer for peer in peers if peer["state"] == "died"][:DEAD_SHOWN]:
        # What a process said last is no markup.
        line = f"  died               {peer['peer']} {peer['last_words']}"
        console.print(line, style="red", markup=False, highlight=False, soft_wrap=True)
    if report is not None:
        console.print(f"\nreport: {report}", markup=False, highlight=False, soft_wrap=True)


def _spreads(summary: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any], str]]:
    """Return (what, its spread over the peers, a word on it) of all that is scored."""
    found: list[tuple[str, Mapping[str, Any], str]] = [("own models", summary["score"], "")]
    if summary.get("final_steps") is not None:
        found.append(("before final steps", summary["final_steps"]["before"], ""))
    if "own_score" in summary:
        note = ": each peer's model on test samples of its own"
        found.append(("on own tests", summary["own_score"], note))
    if "prototype_accuracy" in summary:
        note = f": {summary['prototype_classes']} classes, told without training"
        found.append(("nearest prototypes", summary["prototype_accuracy"], note))
    if "alone" in summary:
        found.append(("learning alone", summary["alone"], ""))
    return found


def _table(summary: Mapping[str, Any], peers: Sequence[Mapping[str, Any]]) -> Table:
    scored, score, sent = score_in(summary), summary["score"], summary["bytes"]
    table = Table(box=box.SIMPLE_HEAD)
    own = "own_score" in summary
    for name in ("peer", scored.label, *(["on own tests"] if own else []), "rounds", "sent", "received"):
        table.add_column(name, justify="left" if name == "peer" else "right")
    for peer in peers[:PEERS_SHOWN]:
        table.add_row(
            _called(peer),
            scored.told(peer["score"]),
            *([scored.told(peer.get("own_score"))] if own else []),
            str(peer["rounds"]),
            human_bytes(peer["sent"]["total"]),
            human_bytes(peer["received"]["total"]),
        )
    if len(peers) > PEERS_SHOWN:
        table.add_row(f"… {len(peers) - PEERS_SHOWN} more", *[""] * (len(table.columns) - 1))
    table.add_section()
    table.add_row(
        "[bold]mean",
        f"[bold]{scored.told(score['mean'])}",
        *([f"[bold]{scored.told(summary['own_score']['mean'])}"] if own else []),
        "",
        human_bytes(sent["per_peer_mean"] or 0),
        "",
    )
    return table


def told_privacy(said: Mapping[str, Any]) -> str:
    """Return what a summary says of `[privacy]`, in words."""
    spent = f", spent by {said['spent']} of the peers" if said["spent"] else ""
    return (
        f"ε = {said['epsilon']['mean']:.3g} (max {said['epsilon']['max']:.3g}) at δ = {said['delta']:g}, of single "
        f"samples; the budget is {said['epsilon_max']:g}{spent}"
    )


def _print_received(console: Console, summary: Mapping[str, Any]) -> None:
    """Print what became of models and messages that were received."""
    attack = summary["attack"]
    if attack is not None:
        console.print(
            f"  attack             {attack['kind']}; own models are the honest peers'", highlight=False
        )
        for whose, name in (
            ("attackers'", "attackers_models"),
            ("honest", "honest_models"),
            ("further", "unnamed_models"),
        ):
            if attack[name]:
                told = ", ".join(f"{reason} {count}" for reason, count in attack[name].items())
                console.print(f"    {whose + ' models':<17}{told}", highlight=False)
        if "success_rate" in attack:
            console.print(f"    success rate     {percent(attack['success_rate']['mean'])}", highlight=False)
    elif summary["verdicts"]:
        told = ", ".join(f"{reason} {count}" for reason, count in summary["verdicts"].items())
        console.print(f"  received models    {told}", highlight=False)
    rejected = summary["faults"]["rejected_messages"]
    if rejected:
        told = ", ".join(f"{reason} {count}" for reason, count in rejected.items())
        console.print(f"  rejected messages  {told}", highlight=False)


def _called(peer: Mapping[str, Any]) -> str:
    marks = [
        word for word, true in (("attacks", not peer["honest"]), ("died", peer["state"] == "died")) if true
    ]
    return str(peer["peer"]) + (f" ({', '.join(marks)})" if marks else "")


def print_library(console: Console, scenarios: Sequence[Mapping[str, Any]]) -> None:
    """Print the ready scenarios."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("scenario", style="bold", no_wrap=True)
    table.add_column("peers", justify="right")
    table.add_column("algorithm", no_wrap=True)
    table.add_column("description")
    for entry in scenarios:
        table.add_row(entry["name"], str(entry["peers"]), entry["algorithm"], entry["description"])
    console.print(table)
    for algorithm, seen in {entry["algorithm"]: entry["seen"] for entry in scenarios}.items():
        if seen is not None:
            console.print(f"{algorithm}: {seen}", markup=False, highlight=False)


def print_topology(console: Console, seen: Mapping[str, Any]) -> None:
    """Print what `topologies.describe` found."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    degree = seen["degree"]
    over = f" (over {seen['rounds']} rounds)" if seen["time_varying"] else ""

    def about(name: str, value: str) -> str:
        bound = "at most" if name == "spectral_gap" else "at least"
        return f"{value}, estimated: {bound}" if name in seen["estimated"] else value

    rows = {
        "topology": f"{seen['kind']}, {seen['peers']} peers",
        "edges": f"{seen['edges']:g}" + (" per round" if over else ""),
        "degree": f"{degree['min']} to {degree['max']}, mean {degree['mean']:.3g}",
        "diameter": "none" if seen["diameter"] is None else about("diameter", str(seen["diameter"])),
        "connected": _yes(seen["connected"]) + over,
        "weights": seen["weights"],
        "doubly stochastic": _yes(seen["doubly_stochastic"]),
        "λ": about("lambda", _number(seen["lambda"]) + (" per round" if over else "")),
        "spectral gap 1-λ": about("spectral_gap", _number(seen["spectral_gap"])),
    }
    if "communities" in seen:
        rows |= _communities(seen["communities"], per_round=bool(over))
    for name, value in rows.items():
        table.add_row(f"[dim]{name}", value)
    console.print(table)


def _communities(seen: Mapping[str, Any], *, per_round: bool) -> dict[str, str]:
    sizes = seen["sizes"]
    of = f"{min(sizes)} to {max(sizes)}" if min(sizes) < max(sizes) else f"{sizes[0]}"
    return {
        "communities": f"{len(sizes)} of {of} peers",
        "edges between": f"{seen['bridges']:g}" + (" per round" if per_round else ""),
        "modularity": _number(seen["modularity"]),
    }


def percent(value: float | None) -> str:
    """Return e.g. ``93.2 %``."""
    return "–" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None, missing: str = "–") -> str:
    return missing if value is None else f"{value:.4g}"


def _yes(value: bool | None) -> str:
    return "unknown" if value is None else ("yes" if value else "no")


def _title(summary: Mapping[str, Any]) -> str:
    return (
        f"{summary['scenario']}: {summary['peers']} peers, {summary['algorithm']}, {summary['rounds']} rounds, "
        f"seed {summary['seed']}, engine {summary['engine']}"
    )


def print_sweep(console: Console, rows: Sequence[SweepRow], *, folder: str) -> None:
    """Show one row per combination of settings: mean ± standard deviation over the seeds."""
    keys = [setting.partition("=")[0] for setting in rows[0].settings] if rows else []
    columns = list(
        zip(*([setting.partition("=")[2] for setting in row.settings] for row in rows), strict=True)
    )
    # What is the same in all rows stands below, once.
    varied = [place for place, column in enumerate(columns) if len(set(column)) > 1]
    named = dict(zip(short_names([keys[i] for i in varied]), (columns[i] for i in varied), strict=True))
    honest = {row.measures["honest_peers"]["mean"] for row in rows}
    measured = _sweep_measures(rows)
    if len(honest) < 2:
        del measured["honest"]
    table = _sweep_table(named, measured)
    needed = console.measure(table, options=console.options.update(max_width=SWEEP_WIDTH_MAX)).maximum
    left_out: list[str] = []
    if not console.is_terminal:
        console.width = max(console.width, needed)
    while needed > console.width and len(measured) > MEASURES_MIN:
        # Half a number is none.
        left_out.insert(0, measured.popitem()[0])
        table = _sweep_table(named, measured)
        needed = console.measure(table, options=console.options.update(max_width=SWEEP_WIDTH_MAX)).maximum
    console.print(table)
    fixed = ", ".join(
        f"{key}={rows[0].settings[i].partition('=')[2]}" for i, key in enumerate(keys) if i not in varied
    )
    if fixed:
        console.print(f"all with {fixed}", highlight=False)
    if len(honest) > 1:
        console.print("honest: how many peers do not attack; the rows differ in this, too", highlight=False)
    console.print(
        f"varied: {', '.join(keys[place] for place in varied) or 'nothing'}; {_scored(rows).label} of the honest "
        "peers' own models, of the worst one, of the average of all; mean ± standard deviation over the seeds",
        highlight=False,
    )
    if left_out:
        console.print(f"a wider terminal, and --json, show also {', '.join(left_out)}", highlight=False)
    console.print(f"runs in {folder}", markup=False, highlight=False, soft_wrap=True)


def _sweep_measures(rows: Sequence[SweepRow]) -> dict[str, list[str]]:
    """Return heading -> cells; what can best be spared comes last."""
    measures, scored = [row.measures for row in rows], _scored(rows)
    unit, factor, digits = (" %", 100, 1) if scored.percent else ("", 1, 3)
    own: dict[str, list[str]] = {}
    if any("own_score" in row for row in measures):
        none = dict.fromkeys(("mean", "std"))
        cells = [_mean_std(row.get("own_score", none), factor, digits) for row in measures]
        own[f"own tests{unit}"] = cells
    return {
        "honest": [_mean(row["honest_peers"], 1, 0) for row in measures],
        "seeds": [str(row.runs) for row in rows],
        f"{scored.label}{unit}": [_mean_std(row["score"], factor, digits) for row in measures],
        f"worst{unit}": [_mean_std(row["score_worst"], factor, digits) for row in measures],
        f"average{unit}": [_mean(row["score_of_mean"], factor, digits) for row in measures],
        **own,
        "consensus": [_mean(row["consensus_distance"], 1, 3) for row in measures],
        "MB": [_mean(row["megabytes"], 1, 1) for row in measures],
        "s": [_mean(row["time"], 1, 1) for row in measures],
    }


def _scored(rows: Sequence[SweepRow]) -> Score:
    return rows[0].scored if rows else ACCURACY


def _sweep_table(named: Mapping[str, Sequence[str]], measured: Mapping[str, Sequence[str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    for name in named:
        table.add_column(Text(name), overflow="fold")
    for name in measured:
        table.add_column(name, justify="right", no_wrap=True)
    for cells in zip(*named.values(), *measured.values(), strict=True):
        table.add_row(*(Text(cell) for cell in cells))
    return table


def short_values(params: Mapping[str, Any]) -> str:
    """Return e.g. ``lr 0.05, gossip_steps 3``."""
    named = zip(short_names(list(params)), params.values(), strict=True)
    return ", ".join(f"{name} {written(value)}" for name, value in named)


def written(value: object) -> str:
    """Return a setting's value as one would write it; a dash where it is not set."""
    if value is None:
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _mean(measure: Mapping[str, float | None], factor: float, digits: int) -> str:
    return "--" if measure["mean"] is None else f"{factor * measure['mean']:.{digits}f}"


def _mean_std(measure: Mapping[str, float | None], factor: float, digits: int) -> str:
    mean, std = measure["mean"], measure["std"]
    if mean is None or std is None:
        return "--"
    return f"{factor * mean:.{digits}f} ± {factor * std:.{digits}f}"
