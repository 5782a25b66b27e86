"""The folder of one run: claimed by one writer, replaced only on purpose, readable by people and programs."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import networkx as nx
from tomli_w import dumps

from gossip.errors import SettingError
from gossip.learning.objectives.score import with_score
from scenarios.inputs import named_files
from scenarios.records import Records, told_peer
from scenarios.scenario import ScenarioSettings

SUMMARY = "summary.json"
PARTIAL = "partial.json"
"""The summary of a run that was stopped, as far as it had come."""

SCENARIO = "scenario.toml"
ENVIRONMENT = "environment.json"
"""The first file of a run: users have files by the name of `SCENARIO`, too."""
INPUTS = "inputs.json"
"""What the files said that it read; not there where it read none."""
METRICS = "metrics.jsonl"
EVENTS = "events.jsonl"
SHARDS = "shards.json"
GRAPH = "topology.graphml"
REPORT = "report.html"
_LOCK = ".lock"

PACKAGES = ("gossip-node", "torch", "numpy", "networkx", "trio", "msgpack", "cryptography", "safetensors")


class RunFolder:
    """Where a run writes; held by a lock until `release`.

    Raises:
        SettingError: a finished run is there and `force` is off; something else than a run is there; another
            run is writing there; the folder cannot be made.
    """

    def __init__(self, path: Path, *, force: bool = False) -> None:
        self.path = path.absolute()
        try:
            self._claim(force)
        except OSError as error:
            raise SettingError(f"--out {path}: cannot be written: {error.strerror or error}") from None

    def _claim(self, force: bool) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise SettingError(f"--out {self.path}: is a file; a run needs a folder")
        found = {entry.name for entry in self.path.iterdir()} if self.path.exists() else set()
        # A wrong path must not cost anybody their files: what was no run is never emptied.
        if found - {_LOCK, _temporary(ENVIRONMENT)} and not _is_environment(self.path / ENVIRONMENT):
            raise SettingError(
                f"--out {self.path}: holds other files and no run; choose a new or empty folder"
            )
        if SUMMARY in found and not force:
            raise SettingError(
                f"--out {self.path}: holds a finished run; give --force to replace it, or another --out"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = hold(
            self.path / _LOCK, f"--out {self.path}: another run is writing there; choose another folder"
        )
        for entry in self.path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != _LOCK:
                entry.unlink()

    def release(self) -> None:
        """Let others write; the lock file goes away."""
        (self.path / _LOCK).unlink(missing_ok=True)
        os.close(self._lock)

    def begin(self, scenario: ScenarioSettings) -> None:
        """Write what is known before the run: the resolved scenario, the machine, the graph."""
        _write_json(self.path / ENVIRONMENT, environment())
        (self.path / SCENARIO).write_text(dumps(scenario.as_file()), encoding="utf-8")
        if inputs := named_files(scenario.as_file()):
            _write_json(self.path / INPUTS, inputs)
        nx.write_graphml(named_graph(scenario), self.path / GRAPH)

    def finish(self, records: Records, summary: Mapping[str, Any]) -> None:
        """Write the measurements, and last the summary, which marks the run as finished."""
        self._measured(records)
        if records.shards is not None:
            lines = [f"{_encode(key)}: {_encode(value)}" for key, value in records.shards.items()]
            _write(self.path / SHARDS, _long("{", lines, "}"))
        peers = [_encode(told_peer(peer, records.scored)) for peer in records.peers]
        _write(self.path / "peers.json", _long("[", peers, "]"))
        _write_json(self.path / SUMMARY, summary)

    def stopped(self, records: Records, summary: Mapping[str, Any]) -> Path:
        """Write what was measured of a run that was stopped, which stays unfinished; return the summary's path."""
        self._measured(records)
        _write_json(self.path / PARTIAL, summary)
        return self.path / PARTIAL

    def _measured(self, records: Records) -> None:
        _write_lines(self.path / METRICS, records.metrics)
        _write_lines(self.path / EVENTS, records.events)


def named_graph(scenario: ScenarioSettings) -> nx.Graph[str]:
    """Return the first round's graph, of peers' names."""
    graph, names = scenario.graphs().graph(0), scenario.peer_names
    named: nx.Graph[str] = nx.Graph()
    named.add_nodes_from(names)
    named.add_edges_from((names[i], names[j]) for i, j in graph.edges)
    return named


def read_summary(folder: Path) -> dict[str, Any]:
    """Return what a finished run says.

    Raises:
        OSError, ValueError: it says nothing, or nothing that can be read.
    """
    return with_score(json.loads((folder / SUMMARY).read_text(encoding="utf-8")))


def read_inputs(folder: Path) -> dict[str, str]:
    """Return what the files said that a run read, by their paths; nothing where it says nothing of them."""
    try:
        found = json.loads((folder / INPUTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def hold(lock: Path, sentence: str) -> int:
    """Lock a file, made if need be, and return its descriptor; closing that lets others in.

    Raises:
        SettingError: somebody else holds it; says `sentence`.
        OSError: it cannot be made.
    """
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise SettingError(sentence) from None
    return descriptor


def environment(*further: str) -> dict[str, Any]:
    """Return what a reader needs to judge or repeat the run; `further` are packages that it used beside the usual."""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "packages": {name: found for name in (*PACKAGES, *further) if (found := _version(name)) is not None},
    }


def _is_environment(path: Path) -> bool:
    """Return whether a file tells the environment of a run, as `environment` makes it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.keys() >= {"started", "command", "packages"}


@cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


_encode = json.JSONEncoder(allow_nan=False).encode
_encode_line = json.JSONEncoder(separators=(",", ":")).encode


def _write_json(path: Path, value: object) -> None:
    _write(path, json.dumps(value, indent=1, allow_nan=False))


def _long(opening: str, lines: Sequence[str], closing: str) -> str:
    """Return JSON of many values, one a line: the encoder that indents takes several times as long."""
    return "\n".join([opening, ",\n".join(lines), closing])


def _temporary(name: str) -> str:
    return f".{name}.tmp"


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(_temporary(path.name))
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)


def _write_lines(path: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(_encode_line(entry) + "\n" for entry in entries)
