"""`--cluster` and `--cluster-set`: which executor, and what it is told."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gossip.config.layers import parse_override
from gossip.errors import SettingError
from scenarios.clusters.executor import Executor
from scenarios.engines import LOCAL as LOCAL
from scenarios.standings import Standings

SLURM = "slurm"
RAY = "ray://"


def choose(
    cluster: str,
    settings: Sequence[str],
    *,
    engine: str,
    runs: int,
    jobs: int | None,
    folder: Path,
    standings: Standings | None = None,
) -> Executor:
    """Return who does the runs.

    Args:
        cluster: local, slurm, or ray://HOST:PORT.
        settings: KEY=VALUE of ``--cluster-set``.
        engine: of the runs.
        runs: how many there are to do.
        jobs: at a time; None: local: one per core for the virtual engine, one for real processes, 0: in this process;
            elsewhere: as many as there is room for.
        folder: of the sweep.
        standings: where runs of this machine tell how far they are; those of others do not.

    Raises:
        SettingError: one sentence: an unknown cluster or setting, or what it takes is not installed.
    """
    values = _values(settings)
    if cluster == LOCAL:
        from scenarios.clusters.local import Here, Local

        if values:
            raise SettingError(f"--cluster-set {settings[0]}: --cluster local takes no settings")
        if jobs == 0:
            return Here(standings)
        at_once = jobs or ((os.cpu_count() or 1) if engine == "virtual" else 1)
        return Local(max(1, min(at_once, runs)), standings)
    if jobs is not None:
        raise SettingError("--jobs: is for --cluster local; a cluster does as many runs as it has room for")
    if cluster == SLURM:
        from scenarios.clusters.on_slurm import Slurm

        return Slurm(values, folder=folder / ".slurm")
    if cluster.startswith(RAY):
        from scenarios.clusters.on_ray import Ray

        return Ray(cluster, values)
    raise SettingError(f"--cluster {cluster}: must be local, slurm or ray://HOST:PORT")


def _values(settings: Sequence[str]) -> dict[str, Any]:
    """Return KEY=VALUE as a table; values are read as those of --set."""
    values: dict[str, Any] = {}
    for each in settings:
        key, sign, text = each.partition("=")
        key = key.strip()
        if not sign or not key.isidentifier() or not text.strip():
            raise SettingError(f"--cluster-set {each}: must look like KEY=VALUE, e.g. partition=gpu")
        if key in values:
            raise SettingError(f"--cluster-set {each}: {key} stands twice")
        values[key] = parse_override(f"cluster.{key}={text}").tables["cluster"][key]
    return values
