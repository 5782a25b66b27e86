"""Whole networks at once: scenario files, the engines that run them, and reports.

The front is lazy (PEP 562): the command line parses its arguments before anything else is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scenarios.api import Result, run
    from scenarios.tuning.search import tune

__all__ = ["Result", "run", "tune"]


def __getattr__(name: str) -> Any:
    if name == "tune":
        from scenarios.tuning import search

        return search.tune
    if name in __all__:
        from scenarios import api

        return getattr(api, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
