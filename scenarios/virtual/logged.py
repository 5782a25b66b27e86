"""A run's logger: given what is measured, and no reason for the run to end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gossip.telemetry.containment import Containment
from gossip.telemetry.loggers.base import open_logger
from scenarios.scenario import ScenarioSettings
from scenarios.virtual.measures.rounds import Measurements

NOT_LOGGED = "measurements not logged"


@contextmanager
def logged(scenario: ScenarioSettings, folder: Path, measurements: Measurements) -> Iterator[None]:
    """Give the run's logger what is measured; what fails there is told, and ends nothing."""
    logger, contained = open_logger(scenario.logger, folder), Containment()

    def measured(entry: Mapping[str, Any]) -> None:
        with contained(NOT_LOGGED):
            logger.log(dict(entry))

    with contained(NOT_LOGGED):
        logger.begin(0)
    measurements.on_measured = measured
    try:
        yield
    finally:
        with contained("the logger not closed"):
            logger.end()
