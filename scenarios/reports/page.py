"""`report.html`: one page about one or many runs, with everything it shows inside it."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx as nx
from jinja2 import Environment, PackageLoader, StrictUndefined

from gossip.errors import SettingError
from gossip.learning.objectives.score import score_in, with_score
from gossip.telemetry.progress import human_bytes
from scenarios.reports import figures, verdict_figures
from scenarios.reports.comparison import compare
from scenarios.reports.overview import CURVES_MAX, overview
from scenarios.reports.terminal import percent
from scenarios.run_folder import METRICS, SCENARIO, SUMMARY, read_summary

PEERS_LISTED_MAX = 500
"""Rows of the table of peers; a page of thousands would be slow to open."""

BARS_MAX = 6
"""More bars for each type of message are no chart."""

DIVERGED_NAMED_MAX = 8
"""Mostly they have all diverged of one thing."""

RUNS_MAX = 5000
"""A page of more would be slow to open."""


COMMON = {
    "scenario": "scenario {}",
    "algorithm": "algorithm {}",
    "peers": "{} peers",
    "rounds": "{} rounds",
    "engine": "engine {}",
}
"""What all runs of a page may have in common, and how that is said."""


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run, read from its folder."""

    folder: Path
    summary: Mapping[str, Any]
    peers: Sequence[Mapping[str, Any]]
    metrics: Sequence[Mapping[str, Any]]
    settings: str
    environment: Mapping[str, Any]
    graph: nx.Graph[str] | None

    @property
    def label(self) -> str:
        """What a page about it alone is called."""
        return f"{self.summary['scenario']} · seed {self.summary['seed']}"


def write_report(folders: Sequence[Path], path: Path) -> None:
    """Write the page about the runs in `folders`.

    Raises:
        SettingError: a folder holds no finished run, there are too many, or the page cannot be written.
    """
    if len(folders) > RUNS_MAX:
        raise SettingError(f"{len(folders)} runs are too many for one page; give at most {RUNS_MAX}")
    if path.exists() and path.suffix != ".html":
        raise SettingError(f"{path}: is there already, and no page (.html); give another name")
    page = render([read_run(folder) for folder in folders])
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise SettingError(f"{path}: cannot be written: {error.strerror or error}") from None


def read_run(folder: Path) -> Run:
    """Read a finished run.

    Raises:
        SettingError: it is none.
    """
    try:
        summary = read_summary(folder)
        peers = [with_score(each) for each in json.loads((folder / "peers.json").read_text(encoding="utf-8"))]
        environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
        lines = (folder / METRICS).read_text(encoding="utf-8").splitlines()
        metrics = [with_score(json.loads(line)) for line in lines]
        settings = (folder / SCENARIO).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        missing = Path(str(error.filename)).name
        raise SettingError(f"{folder}: holds no finished run, {missing} is missing") from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise SettingError(f"{folder}: cannot be read as a run: {error}") from None
    missing_keys = [key for key in ("scenario", "seed", "score", "curve", "bytes") if key not in summary]
    if missing_keys:
        raise SettingError(f"{folder}: cannot be read as a run: {SUMMARY} has no '{missing_keys[0]}'")
    graphml = folder / "topology.graphml"
    graph = nx.read_graphml(graphml) if graphml.exists() else None
    return Run(folder, summary, peers, metrics, settings, environment, graph)


def page_environment() -> Environment:
    """Return what renders the pages, with the filters that their templates use."""
    environment = Environment(
        loader=PackageLoader("scenarios"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent, bytes=lambda value: "–" if value is None else human_bytes(value)
    )
    environment.filters["seconds"] = lambda value: f"{value:.1f} s" if value < 1000 else f"{value:.0f} s"
    environment.filters["number"] = lambda value: "–" if value is None else f"{value:#.3g}"
    environment.filters["capitalize_first"] = lambda text: text[:1].upper() + text[1:]
    return environment


def render(runs: Sequence[Run]) -> str:
    """Return the page, HTML with nothing to load from elsewhere."""
    said = [(run.summary, tomllib.loads(run.settings)) for run in runs]
    seen = overview(said, [run.folder for run in runs])
    only = runs[0] if len(runs) == 1 else None
    told = {} if only is None else verdict_figures.told_by(only.metrics)
    attack = None if only is None else only.summary.get("attack")
    attackers = attack["attackers"] if attack else []
    comparison = compare(said)
    rows = seen.rows if len(seen.rows) <= CURVES_MAX else ()
    series = [row.series for row in rows]
    scored = {score_in(run.summary) for run in runs}
    if len(scored) > 1:
        names = ", ".join(sorted(each.label for each in scored))
        raise SettingError(f"these runs are scored by different things, {names}; give those of one objective")
    (score,) = scored
    environment = page_environment()
    return environment.get_template("report.html").render(
        runs=runs,
        only=only,
        seen=seen,
        title=only.label if only else f"{len(runs)} runs",
        common=_common(runs),
        score=score,
        scores=figures.scores(series, score) if series else None,
        averages_drawn=figures.averages_drawn(series),
        bands_drawn=len(series) <= figures.BANDS_MAX and (seen.seeds or not seen.pooled),
        consensus=figures.consensus(series),
        cost=figures.cost(series, score, senders="the honest peers" if _honest_bytes(runs) else "all peers"),
        traffic=figures.traffic([(row.series, row.traffic) for row in rows])
        if 0 < len(rows) <= BARS_MAX
        else None,
        attack=attack,
        warnings=_warnings(runs),
        received=_received(only, attackers),
        unnamed=_unnamed(only),
        weights=verdict_figures.weights(told, attackers),
        verdicts=verdict_figures.verdicts(told, attackers),
        comparison=comparison if only is None and comparison.worth_showing else None,
        matrix=verdict_figures.matrix(comparison.mean, comparison.rules, comparison.attacks, score),
        every_peer=None if only is None else figures.every_peer(only.metrics, only.summary["curve"], score),
        network=None if only is None else _network(only),
        machines=_machines(runs),
        peers_listed_max=PEERS_LISTED_MAX,
        curves_max=CURVES_MAX,
    )


def _warnings(runs: Sequence[Run]) -> list[str]:
    """Return what was said of a run that may have gone wrong, or which of many have diverged."""
    if len(runs) == 1:
        return list(runs[0].summary.get("warnings", ()))
    diverged = [
        f"{run.folder.parent.name}/{run.folder.name}" for run in runs if run.summary.get("divergence")
    ]
    if not diverged:
        return []
    more = f" and {len(diverged) - DIVERGED_NAMED_MAX} more" if len(diverged) > DIVERGED_NAMED_MAX else ""
    return [
        f"In {len(diverged)} of {len(runs)} runs models diverged: {', '.join(diverged[:DIVERGED_NAMED_MAX])}{more}; "
        "each run’s own report says why."
    ]


def _common(runs: Sequence[Run]) -> str:
    """Return what all runs have in common, for the line below the title."""
    parts = []
    for key, how in COMMON.items():
        values = {run.summary[key] for run in runs}
        if len(values) == 1:
            parts.append(how.format(values.pop()))
    seeds = {run.summary["seed"] for run in runs}
    return " · ".join([*parts, f"{len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds.pop()}"])


def _honest_bytes(runs: Sequence[Run]) -> bool:
    """Return whether the curve of any run counts the honest peers' bytes only: attackers are not evaluated."""
    for run in runs:
        sent = [peer["sent"]["total"] for peer in run.peers if peer.get("honest", True)]
        curve = run.summary["curve"]
        if len(sent) < len(run.peers) and curve and curve[-1]["bytes"] <= sum(sent):
            return True
    return False


def _machines(runs: Sequence[Run]) -> list[str]:
    """Return where the runs were made, and when: one line for each machine and set of packages."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        told = run.environment
        packages = "".join(f", {name} {number}" for name, number in told["packages"].items())
        where = f"{told['platform']}, {told['cpu_count']} CPUs, Python {told['python']}{packages}"
        found.setdefault(where, []).append(run)
    lines = []
    for where, there in found.items():
        times = sorted(str(run.environment["started"]) for run in there)
        when = times[0] if times[0] == times[-1] else f"{times[0]} to {times[-1]}"
        lines.append(f"{len(there)} run{'s' if len(there) > 1 else ''}, started {when}, on {where}.")
    return lines


def _received(run: Run | None, attackers: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
    """Return sender -> "accepted" or a reason -> its models at honest peers, attackers first."""
    if run is None:
        return {}
    of: dict[str, Counter[str]] = {}
    for peer in run.peers:
        for sender, counts in peer.get("verdicts", {}).items() if peer.get("honest", True) else ():
            of.setdefault(sender, Counter()).update(counts)
    lying = frozenset(attackers)
    return {sender: of[sender] for sender in sorted(of, key=lambda name: (name not in lying, name))}


def _unnamed(run: Run | None) -> Mapping[str, int]:
    """Return "accepted" or a reason -> models at honest peers of senders of whom these had too many to name."""
    counts: Counter[str] = Counter()
    for peer in () if run is None else run.peers:
        counts.update(peer.get("verdicts_on_others", {}) if peer.get("honest", True) else {})
    return dict(sorted(counts.items()))


def _network(run: Run) -> str | None:
    if run.graph is None:
        return None
    attackers = {peer["peer"] for peer in run.peers if not peer.get("honest", True)}
    finals = {
        peer["peer"]: peer["score"]
        for peer in run.peers
        if peer["score"] is not None and peer["peer"] not in attackers
    }
    return figures.network(run.graph, finals, score_in(run.summary), attackers)
