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

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@contextmanager
def importing(folder: str) -> Iterator[Callable[[str], ModuleType]]:
    """Let the modules of a folder of `tools` find each other."""
    sys.path.insert(0, str(TOOLS / folder))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(TOOLS / folder))


@pytest.fixture(scope="session")
def started() -> Iterator[Any]:
    """Start the process that forks nodes, once for all: it takes seconds to import what a node needs."""
    with importing("torture") as tool, tool("arena").launcher() as launcher:
        yield launcher
