"""A finished run, read back from its folder."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import networkx as nx

from gossip.errors import SettingError
from gossip.learning.objectives.score import with_score
from gossip.plugins import one_line
from scenarios.run_folder import EVENTS, GRAPH, METRICS, SCENARIO, SHARDS, SUMMARY, read_summary

T = TypeVar("T")

PEERS = "peers.json"
ENVIRONMENT = "environment.json"

PEER_KEYS = frozenset({"peer", "state", "sent"})
METRIC_KEYS = frozenset({"peer", "round", "time"})
EVENT_KEYS = frozenset({"event", "time"})
ENVIRONMENT_KEYS = frozenset({"started", "python", "platform", "cpu_count", "packages"})
"""What an entry has of any version that wrote it."""


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

    @property
    def tables(self) -> dict[str, Any]:
        """The settings by section. `SettingError` where they cannot be read."""
        return _read(self.folder, SCENARIO, lambda path: _table(tomllib.loads(self.settings), of=dict))


def read_run(folder: Path) -> Run:
    """Read a finished run.

    Raises:
        SettingError: it is none.
    """
    summary = _read(folder, SUMMARY, lambda path: _table(read_summary(path.parent)))
    missing = [key for key in ("scenario", "seed", "score", "curve", "bytes") if key not in summary]
    if missing:
        raise _unreadable(folder, f"{SUMMARY} has no '{missing[0]}'")
    peers = _read(folder, PEERS, lambda path: [with_score(each) for each in _entries(_json(path), PEER_KEYS)])
    environment = _read(folder, ENVIRONMENT, lambda path: _environment(_json(path)))
    metrics = _read(folder, METRICS, lambda path: [with_score(each) for each in _lines(path, METRIC_KEYS)])
    settings = _read(folder, SCENARIO, lambda path: path.read_text(encoding="utf-8"))
    there = {name for name in (EVENTS, SHARDS, GRAPH) if (folder / name).exists()}
    events = _read(folder, EVENTS, partial(_lines, keys=EVENT_KEYS)) if EVENTS in there else []
    shards = _read(folder, SHARDS, lambda path: _table(_json(path), of=list)) if SHARDS in there else {}
    graph = _read(folder, GRAPH, _graph) if GRAPH in there else None
    return Run(folder, summary, peers, metrics, settings, environment, graph, events, shards)


def _read(folder: Path, name: str, parse: Callable[[Path], T]) -> T:
    try:
        return parse(folder / name)
    except FileNotFoundError:
        raise SettingError(f"{folder}: holds no finished run, {name} is missing") from None
    except OSError as error:
        raise _unreadable(folder, f"{name}: {error.strerror or error}") from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise _unreadable(folder, f"{name}: {error}") from None


def _unreadable(folder: Path, why: str) -> SettingError:
    return SettingError(f"{folder}: cannot be read as a run: {why}")


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _lines(path: Path, keys: frozenset[str]) -> list[dict[str, Any]]:
    return _entries([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()], keys)


def _entries(found: Any, keys: frozenset[str]) -> list[dict[str, Any]]:
    """Return a list of tables that have the keys; `ValueError` where it is none."""
    if not isinstance(found, list):
        raise ValueError(f"holds {type(found).__name__}, not a list")
    for number, entry in enumerate(found, 1):
        if not isinstance(entry, dict) or not keys <= entry.keys():
            raise ValueError(f"entry {number} is no table with {', '.join(sorted(keys))}")
    return found


def _table(found: Any, of: type = object) -> dict[str, Any]:
    """Return a table whose values are of a kind; `ValueError` where it is none."""
    if not isinstance(found, dict):
        raise ValueError(f"holds {type(found).__name__}, not a table")
    wrong = [key for key, value in found.items() if not isinstance(value, of)]
    if wrong:
        raise ValueError(f"'{wrong[0]}' is no {of.__name__}")
    return found


def _environment(found: Any) -> dict[str, Any]:
    table = _table(found)
    missing = sorted(ENVIRONMENT_KEYS - table.keys())
    if missing or not isinstance(table["packages"], dict):
        raise ValueError(f"has no '{missing[0]}'" if missing else "'packages' is no table")
    return table


def _graph(path: Path) -> nx.Graph[str]:
    try:
        graph: nx.Graph[str] = nx.read_graphml(path)
    except OSError:
        raise
    except Exception as failure:  # of whatever the parser and networkx stumble over
        raise ValueError(f"no graph: {one_line(failure)}") from None
    return graph
