"""One deterministic profile for all property tests: a failure on one machine fails on every other."""

from __future__ import annotations

import gc
import itertools
import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.laws import examples

settings.register_profile(
    "laws",
    max_examples=examples(1),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("laws")


GARBAGE_TESTS = 250
"""What so many tests leave behind in cycles may lie about."""


@pytest.fixture(scope="session")
def tests_until_now() -> Iterator[Iterator[int]]:
    """Count tests; at the end, what they left behind is there to be collected, and complaints of it to be heard."""
    yield itertools.count()
    gc.unfreeze()


@pytest.fixture(autouse=True)
def nothing_old_to_look_through(tests_until_now: Iterator[int]) -> None:
    """Each run in the virtual engine collects garbage first: among torch and all tests, longer than it runs."""
    if next(tests_until_now) % GARBAGE_TESTS == 0:
        gc.unfreeze()
        gc.collect()
    gc.freeze()


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
