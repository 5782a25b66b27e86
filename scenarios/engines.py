"""The worlds a scenario can run in. An engine is one function; scenario files, summaries and reports are shared."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from gossip.errors import SettingError, nearest

if TYPE_CHECKING:
    from scenarios.progress import Progress
    from scenarios.records import Records
    from scenarios.scenario import ScenarioSettings


class Engine(Protocol):
    """Runs a scenario."""

    def __call__(
        self, scenario: ScenarioSettings, folder: Path, progress: Progress, /, *, workers: int | None = 1
    ) -> Records:
        """Run the scenario to its end inside the folder, tell progress, return the records.

        `workers` is how many processes compute beside the engine's own; None: as it pays. Raises `RunFailed` where a
        peer failed, and lets KeyboardInterrupt pass after it has tidied up.
        """
        ...


LOCAL = "local"
"""The cluster that is this machine."""

ENGINES: Mapping[str, str] = {
    "virtual": "scenarios.virtual.engine:run",
    "processes": "scenarios.processes.engine:run",
}


def load_engine(name: str) -> Engine:
    """Return the engine called `name`, or raise `SettingError` naming the nearest."""
    if name not in ENGINES:
        raise SettingError(f"--engine {name}: unknown engine; {nearest(name, ENGINES)}")
    module, _, function = ENGINES[name].partition(":")
    engine: Engine = getattr(importlib.import_module(module), function)
    return engine


def ahead(name: str, *, here: bool) -> AbstractContextManager[None]:
    """Return a context in which processes that the engine will need `here` start while this one still imports."""
    if name != "processes" or not here:
        return nullcontext()
    from scenarios.processes.server import server_ahead

    return server_ahead()


def elsewhere(engine: Engine, name: str, cluster: str, hosts: Path | None) -> Engine:
    """Return the engine with its peers on other machines.

    Raises:
        SettingError: it cannot have them there, or there is no such place.
    """
    from scenarios.machines.reach import reach

    if name != "processes":
        said = f"--cluster {cluster}" if hosts is None else f"--hosts {hosts}"
        raise SettingError(
            f"{said}: the peers of --engine {name} live in one process; use --engine processes"
        )
    return partial(engine, reach=reach(cluster, hosts))  # type: ignore[call-arg]
