"""The worlds a scenario can run in. An engine is one function; scenario files, summaries and reports are shared."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from gossip.errors import SettingError, nearest
from scenarios.progress import Progress
from scenarios.records import Records
from scenarios.scenario import ScenarioSettings

Engine: TypeAlias = Callable[[ScenarioSettings, Path, Progress], Records]
"""Runs the scenario to its end inside the folder, tells progress, returns the records.

Raises `RunFailed` where a peer failed, and lets KeyboardInterrupt pass after it has tidied up.
"""

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
