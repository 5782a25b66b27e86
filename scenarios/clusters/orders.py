"""What a worker on another machine is told, and what it answers: JSON, and a run's folder as bytes.

An order has the resolved scenario with its seed as text, so a worker needs none of the user's scenario files. What it
names (data, code) must lie on the worker's machine at the same place, with the same content.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from gossip.errors import GossipError, SettingError
from scenarios.clusters.parcels import BadParcel, pack, unpack
from scenarios.clusters.runs import Run
from scenarios.clusters.versions import difference, versions
from scenarios.errors import RunFailed
from scenarios.inputs import missing_file, named_files
from scenarios.private_folder import private_folder
from scenarios.scenario import load

HEADER_BYTES_MAX = 1 << 16


@dataclass(frozen=True, slots=True)
class Order:
    """What is sent of a run."""

    data: bytes
    scenario: str
    """Text of the scenario.toml that must come back."""


def order(run: Run) -> Order:
    """Write down a run for a worker elsewhere.

    Raises:
        SettingError: a setting is wrong.
    """
    tables = load(run.scenario, seed=run.seed, overrides=run.settings).as_file()
    text = tomli_w.dumps(tables)
    said = {
        "scenario": text,
        "engine": run.engine,
        "versions": dict(versions()),
        "files": named_files(tables),
    }
    return Order(json.dumps(said).encode(), text)


def work(data: bytes) -> bytes:
    """Do what an order says, on the worker's machine, and return the answer. What is ours to say is never raised."""
    said = json.loads(data)
    here = socket.gethostname()
    other = difference(said["versions"])
    if other is not None:
        return _answer(here, refused=f"it has {other}")
    wrong = missing_file(said["files"])
    if wrong is not None:
        return _answer(here, refused=wrong)
    with private_folder("gossip-run-") as folder:
        try:
            return _answer(here, parcel=_done(said, folder))
        except (GossipError, BadParcel) as error:
            return _answer(here, error=str(error))


def _done(said: Mapping[str, Any], folder: Path) -> bytes:
    from scenarios.api import run

    scenario = folder / "scenario.toml"
    scenario.write_text(said["scenario"], encoding="utf-8")
    out = folder / "run"
    run(scenario, engine=said["engine"], out=out, report=False)
    return pack(out)


def arrive(run: Run, ordered: Order, answer: bytes) -> None:
    """Put what a worker answered into the run's folder.

    Raises:
        SettingError: the worker may not do it, or the run came to nothing there. RunFailed: it answers something else.
    """
    header, _, parcel = answer.partition(b"\n")
    try:
        if len(header) > HEADER_BYTES_MAX:
            raise BadParcel("its head is too long")
        said = json.loads(header)
        host, error, refused = (str(said[key]) for key in ("host", "error", "refused"))
        if not (error or refused):
            unpack(parcel, run.folder, scenario=ordered.scenario)
    except (ValueError, LookupError, TypeError, RecursionError) as wrong:
        raise RunFailed(f"{run.told}: what a worker has sent back is not the run: {wrong}") from None
    if refused:
        raise SettingError(f"the worker {host} cannot do {run.told}: {refused}; make it the same there")
    if error:
        raise SettingError(f"{run.told}: {error} (on {host})")


def _answer(host: str, *, parcel: bytes = b"", error: str = "", refused: str = "") -> bytes:
    return json.dumps({"host": host, "error": error, "refused": refused}).encode() + b"\n" + parcel
