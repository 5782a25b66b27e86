"""What integration tests share: the tools, imported as their command lines import them, and one fork server."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from scenarios.processes.server import kept_server
from tests.integration.homes import forked_nodes

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@contextmanager
def importing(folder: str) -> Iterator[Callable[[str], ModuleType]]:
    """Let the modules of a folder of `tools` find each other."""
    sys.path.insert(0, str(TOOLS / folder))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(TOOLS / folder))


@pytest.fixture(scope="session", autouse=True)
def one_fork_server() -> Iterator[None]:
    """Keep the process that forks nodes, for whoever needs one next: it takes seconds to import what a node needs."""
    with kept_server():
        yield


@pytest.fixture(autouse=True)
def no_node_is_left() -> Iterator[None]:
    """Give the fork server back that `Running` has taken."""
    with forked_nodes():
        yield


@pytest.fixture
def started() -> Iterator[Any]:
    """The process that forks nodes, for `tools/torture`."""
    with importing("torture") as tool, tool("arena").launcher() as launcher:
        yield launcher
