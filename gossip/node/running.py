"""A node from its start to its exit code."""

from __future__ import annotations

import gc
from collections.abc import Callable

import trio

from gossip import heap
from gossip.errors import ExitCode, GossipError
from gossip.node.node import Node
from gossip.node.setup import Setup


def sole_error(group: BaseException) -> GossipError | None:
    """Return the one error of ours inside nested exception groups, or None where there is another one."""
    if isinstance(group, BaseExceptionGroup):
        found = [sole_error(error) for error in group.exceptions]
        return found[0] if all(found) else None
    return group if isinstance(group, GossipError) else None


def run_node(setup: Setup, make: Callable[[Setup], Node] = Node) -> ExitCode:
    """Run a node to its end; `make` makes it.

    Raises:
        UserError: with one sentence and the exit code.
    """

    async def main() -> ExitCode:
        node = make(setup)
        # A full garbage collection walks all objects of torch and the task: 0.15 s in which no thread does anything, a
        # second on a busy machine. They live as long as the process, so it need not look at them.
        gc.collect()
        gc.freeze()
        heap.give_back()
        return await node.run()

    try:
        return trio.run(main)
    except BaseExceptionGroup as group:
        error = sole_error(group)
        if error is None:
            raise
        raise error from None
    finally:
        gc.unfreeze()
