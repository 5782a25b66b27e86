"""What an engine tells of peers that diverge, and of data that may make them: while it runs, and for its records."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

from gossip.learning import batches
from gossip.learning.divergence import is_told, with_attackers
from gossip.learning.scales import Scales, caution, scales_of_task
from gossip.learning.task import Task

logger = logging.getLogger("scenarios")


class Divergences:
    """The honest peers whose models have diverged; the first of them is told of at once.

    Args:
        honest: whose models are anybody's concern.
        attackers: how many others there are.
        lr: `[local] lr`.
    """

    def __init__(self, honest: Collection[str], *, attackers: int, lr: float) -> None:
        self._honest = frozenset(honest)
        self._attackers = attackers
        self._lr = lr
        self.of: dict[str, Mapping[str, Any]] = {}
        """Peer -> the line of events.jsonl that told of it first."""

    def note(self, event: Mapping[str, Any]) -> None:
        """Take a line of events.jsonl, if it tells of the first divergence of an honest peer."""
        if not is_told(event) or event["peer"] not in self._honest or event["peer"] in self.of:
            return
        if self._attackers:
            # No node knows that others attack.
            event = with_attackers(event, lr=self._lr, attackers=self._attackers)
        if not self.of:
            logger.warning("%s", event["sentence"])
        self.of[event["peer"]] = event


def look_at_inputs(task: Task) -> tuple[Scales, list[str]]:
    """Measure the inputs, and tell of what may be a mistake; return what was measured and what was told."""
    scales = scales_of_task(task)
    found = [
        *task.cautions,
        *task.tried,
        caution(scales, task.model_settings),
        # Many peers with few samples each are what scenarios are for.
        batches.caution(len(task.training), task.local_settings, whose="of all peers together"),
    ]
    told = [sentence for sentence in found if sentence is not None]
    for sentence in told:
        logger.warning("%s", sentence)
    return scales, told
