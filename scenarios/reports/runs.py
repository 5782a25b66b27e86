"""A finished run, read back from its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import networkx as nx

from gossip.errors import SettingError
from gossip.learning.objectives.score import with_score
from scenarios.run_folder import EVENTS, GRAPH, METRICS, SCENARIO, SHARDS, SUMMARY, read_summary


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
    events: Sequence[Mapping[str, Any]] = ()
    shards: Mapping[str, Any] = field(default_factory=dict)
    """{samples, classes, counts}: whose data, see `scenarios.shards`; {} of runs that were not told."""

    @property
    def label(self) -> str:
        """What a page about it alone is called."""
        return f"{self.summary['scenario']} · seed {self.summary['seed']}"


def read_run(folder: Path) -> Run:
    """Read a finished run.

    Raises:
        SettingError: it is none.
    """
    try:
        summary = read_summary(folder)
        peers = [with_score(each) for each in _json(folder / "peers.json")]
        environment = _json(folder / "environment.json")
        metrics = [with_score(entry) for entry in _lines(folder / METRICS)]
        settings = (folder / SCENARIO).read_text(encoding="utf-8")
        events = _lines(folder / EVENTS) if (folder / EVENTS).exists() else []
        shards = _json(folder / SHARDS) if (folder / SHARDS).exists() else {}
    except FileNotFoundError as error:
        missing = Path(str(error.filename)).name
        raise SettingError(f"{folder}: holds no finished run, {missing} is missing") from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise SettingError(f"{folder}: cannot be read as a run: {error}") from None
    missing_keys = [key for key in ("scenario", "seed", "score", "curve", "bytes") if key not in summary]
    if missing_keys:
        raise SettingError(f"{folder}: cannot be read as a run: {SUMMARY} has no '{missing_keys[0]}'")
    graphml = folder / GRAPH
    graph = nx.read_graphml(graphml) if graphml.exists() else None
    return Run(folder, summary, peers, metrics, settings, environment, graph, events, shards)


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
