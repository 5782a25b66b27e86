"""How a node is run."""

from __future__ import annotations

import gc
from typing import Any

from gossip.errors import ExitCode
from gossip.node.running import run_node


def test_garbage_collections_leave_out_what_was_there_before_the_run_and_only_as_long_as_that() -> None:
    """A full one would stop heartbeats for as long as it takes to walk all of torch."""
    seen: list[int] = []

    class Fake:
        async def run(self) -> ExitCode:
            seen.append(len(gc.get_objects()))
            return ExitCode.DONE

    setup: Any = None
    before = len(gc.get_objects())
    assert run_node(setup, lambda _: Fake()) is ExitCode.DONE  # type: ignore[arg-type, return-value]
    assert seen[0] < before / 10
    assert gc.get_freeze_count() == 0
