"""The document of one run: every figure and word that its page shows."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from gossip.learning.objectives.score import Score, score_in
from gossip.page.numbers import shorts
from gossip.page.rendering import FORMAT, told_score
from scenarios.reports.document import attacks, happenings, machines, networks, peers, settings
from scenarios.reports.runs import Run

OWN_OPTIONS = ("--out", "--force", "--quiet", "--json", "--live")
"""Of a command line, what does not matter to whoever repeats the run."""

COMMANDS = ("gossip-scenario", "scenarios/cli.py")

CURVE = {
    "round": "round",
    "time": "time",
    "bytes": "bytes",
    "mean": "score_mean",
    "min": "score_min",
    "max": "score_max",
    "of_mean": "score_of_mean",
    "own": "own_score_mean",
    "prototypes": "prototype_accuracy_mean",
    "consensus": "consensus_distance",
    "before": "consensus_before",
}
"""The document's name -> that of a point in `summary.json`."""


def document(run: Run) -> dict[str, Any]:
    """Return the document of a finished run; plain values, no NaN."""
    summary, tables = run.summary, run.tables
    score = score_in(summary)
    rows = peers.chosen(run, score)
    down = happenings.down(run)
    return {
        "format": FORMAT,
        "kind": "run",
        "title": summary["scenario"],
        "lead": lead(run, tables),
        "state": "finished",
        "score": told_score(score),
        "progress": progress(summary, tables),
        "facts": facts(summary, score),
        "warnings": list(summary.get("warnings", ())),
        "curve": curve(run),
        "senders": "the honest peers" if honest_bytes(run) else "all peers",
        "alone": alone(summary),
        "faults": happenings.marks(run),
        "peers": peers.table(run, rows, down),
        "points": peers.columns(run),
        "matrix": peers.matrix(run, rows),
        "down": [happenings.spans(down.get(name, ()), summary["curve"]) for name in rows.names],
        "sampled": {"shown": len(rows.names), "of": len(run.peers)} if rows.sampled else None,
        "network": networks.network(run, rows, tables),
        "data": peers.whose_data(run, rows, tables),
        "events": happenings.events(run, score),
        "phases": phases(run),
        "bytes": [
            {"kind": kind, "bytes": count}
            for kind, count in sorted(summary["bytes"]["by_type"].items(), key=lambda item: -item[1])
            if count
        ],
        "payload": _share(summary["bytes"].get("payload"), summary["bytes"].get("protocol")),
        "attack": attacks.told(run),
        "settings": settings.told(run.settings, tables),
        "command": command(run),
        "machines": machines.lines([run]),
    }


def lead(run: Run, tables: Mapping[str, Any]) -> str:
    """Return the line below the title: what was run, and which of the rarer settings."""
    summary = run.summary
    attack = summary.get("attack")
    attackers = f", {len(attack['attackers'])} of them attack ({attack['kind']})" if attack else ""
    topology = tables.get("topology", {})
    degree = f", degree {topology['degree']}" if "degree" in topology else ""
    codec, parts = tables.get("codec", {}).get("kind"), tables.get("protocol", {}).get("parts", 1)
    objective = tables.get("objective", {}).get("kind")
    final = tables.get("final", {}).get("steps")
    said = [
        f"{summary['peers']} peers{attackers}",
        str(summary["algorithm"]),
        f"{topology['kind']} graph{degree}" if "kind" in topology else None,
        None if objective in (None, "classification") else str(objective),
        None if codec in (None, "float32") else f"codec {codec}",
        f"models in {parts} parts" if isinstance(parts, int) and parts > 1 else None,
        f"final steps: {final}" if final else None,
        f"{summary['rounds']} rounds",
        f"seed {summary['seed']}",
        f"engine {summary['engine']}",
    ]
    return " · ".join(part for part in said if part)


def progress(summary: Mapping[str, Any], tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return how far the run has come, and how long it took."""
    planned = tables.get("stop", {}).get("rounds")
    done = summary["rounds"]
    engine = "virtual seconds" if summary["engine"] == "virtual" else "s"
    wall = summary.get("wall_seconds")
    took = f"{summary['time']:.4g} {engine}" + (f", {wall:.3g} s with all around it" if wall else "")
    why = summary.get("stopped")
    early = f" (ended by {why})" if why not in (None, "rounds") else ""
    whole = done if early or not isinstance(planned, int) else max(planned, done)
    return {"done": done, "of": whole, "took": took + early}


def facts(summary: Mapping[str, Any], score: Score) -> list[dict[str, Any]]:
    """Return the figures at a glance: {what, value, unit, note, spark}, the most important first."""
    scores, told = summary["score"], score.told
    best = scores["max"] if score.higher_is_better else scores["min"]
    found = [
        _fact(
            f"{score.label}, mean of the peers’ own models",
            told(scores["mean"]),
            f"average of all models {told(summary['score_of_mean'])}",
            spark="mean",
        ),
        _fact("worst peer", told(scores["worst"]), f"best {told(best)}"),
    ]
    final = summary.get("final_steps")
    if final:
        found.append(_fact("before the final steps", told(final["before"]["mean"]), "mean of the same peers"))
    own = summary.get("own_score")
    if own:
        found.append(
            _fact(f"{score.label} on own tests", told(own["mean"]), f"worst peer {told(own['worst'])}")
        )
    prototypes = summary.get("prototype_accuracy")
    if prototypes:
        note = f"worst peer {told(prototypes['min'])}, {summary['prototype_classes']} classes known to all"
        found.append(_fact("nearest prototypes", told(prototypes["mean"]), note))
    known = alone(summary)
    if known:
        found.append(_fact("learning alone", told(known["mean"]), f"worst peer {told(known['worst'])}"))
    private = summary.get("privacy")
    if private:
        most = f"the most of any peer; of {private['epsilon_max']:g} at δ = {private['delta']:g}"
        found.append(_fact("privacy spent", f"ε = {private['epsilon']['max']:.3g}", most))
    distance = summary["consensus_distance"]
    found.append(
        _fact(
            "disagreement", "–" if distance is None else f"{distance:.3g}", "consensus distance", "consensus"
        )
    )
    each = summary["bytes"].get("per_peer_mean")
    found.append(
        {"what": "sent in all", "bytes": summary["bytes"]["total"], "each": each, "value": "", "unit": ""}
    )
    return found


def _fact(what: str, value: str, note: str, spark: str | None = None) -> dict[str, Any]:
    number, _, unit = value.partition(" ")
    return {"what": what, "value": number, "unit": unit, "note": note, "spark": spark}


def curve(run: Run) -> dict[str, list[Any]]:
    """Return the run's curve by columns; of many peers with the bounds of their middle four fifths."""
    points = run.summary["curve"]
    columns = {name: shorts(point.get(key) for point in points) for name, key in CURVE.items()}
    kept = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    return {**{name: kept.get(name, []) for name in CURVE}, **peers.quantiles(run)}


def alone(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return {mean, worst} of peers that learn from their own data only, where the record says so."""
    said = summary.get("alone")
    if not isinstance(said, dict) or said.get("mean") is None:
        return None
    return {"mean": said["mean"], "worst": said.get("worst", said.get("min"))}


def honest_bytes(run: Run) -> bool:
    """Return whether the curve counts the honest peers' bytes only: attackers are not evaluated."""
    sent = [peer["sent"]["total"] for peer in run.peers if peer.get("honest", True)]
    points = run.summary["curve"]
    return len(sent) < len(run.peers) and bool(points) and points[-1]["bytes"] <= sum(sent)


def phases(run: Run) -> list[dict[str, Any]]:
    """Return the median seconds of each phase of a round, where measurements have `phases`."""
    found: dict[str, list[float]] = {}
    for entry in run.metrics:
        for name, seconds in entry.get("phases", {}).items():
            found.setdefault(name, []).append(seconds)
    return [
        {"phase": name, "seconds": sorted(values)[len(values) // 2]}
        for name, values in found.items()
        if values
    ]


def command(run: Run) -> str:
    """Return the command that repeats the run."""
    argv = [str(word) for word in run.environment.get("command", ())]
    if len(argv) > 2 and argv[0].endswith(COMMANDS) and argv[1] == "run":
        return shlex.join(["gossip-scenario", *_without(argv[1:])])
    return shlex.join(
        ["gossip-scenario", "run", str(run.folder / "scenario.toml"), "--engine", run.summary["engine"]]
    )


def _without(words: list[str]) -> list[str]:
    kept: list[str] = []
    before = ""
    for word in words:
        name, sign, _ = word.partition("=")
        belongs = before == "--out" or (before == "--live" and re.fullmatch(r"(\S*:)?\d+", word))
        before = "" if belongs or sign else name
        if not belongs and name not in OWN_OPTIONS:
            kept.append(word)
    return kept


def _share(part: int | None, whole: int | None) -> float | None:
    return part / whole if part is not None and whole else None
