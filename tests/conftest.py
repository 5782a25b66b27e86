"""One deterministic profile for all property tests: a failure on one machine fails on every other."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "laws", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("laws")


@pytest.fixture(autouse=True)
def the_log_as_it_was() -> Iterator[None]:
    """The next test must not find what one has left: the command line's log, or loggers that import-linter disabled."""
    logger = logging.getLogger("gossip")
    before = (logger.handlers[:], logger.level, logger.propagate)
    yield
    logger.handlers[:], level, logger.propagate = before
    logger.setLevel(level)
    for name, each in logging.root.manager.loggerDict.items():
        if isinstance(each, logging.Logger) and name.partition(".")[0] in ("gossip", "scenarios"):
            each.disabled = False
