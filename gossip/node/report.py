"""What a node says of itself: to `gossip-node status`, and to Prometheus."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gossip.telemetry.accounting import Accounting

if TYPE_CHECKING:
    from gossip.node.node import Node
    from gossip.privacy.budget import Budget


def status_of(node: Node) -> Mapping[str, Any]:
    """Return what `gossip-node status` prints. It is put together from what is in memory: nothing is waited for.

    `round` is that of the newest checkpoint on the disk, `accuracy` that of the newest evaluation up to there;
    `round_in_progress` is what a kill would have to be done again.
    """
    setup, recorder = node.setup, node.recorder
    settings, last = setup.membership.settings, recorder.last
    score = setup.task.objective.score
    return {
        "name": node.name,
        "state": node.state,
        "round": recorder.saver.round,
        "round_in_progress": min(node.rounds_done + 1, settings.stop.rounds),
        "rounds": settings.stop.rounds,
        "rounds_here": node.rounds_done - node.rounds_before,
        "algorithm": settings.algorithm,
        "topology": None if setup.membership.everybody else settings.topology.kind,
        **score.recorded(None if last is None else last.evaluation.score),
        "objective": score._asdict(),
        "test_loss": None if last is None else finite(last.evaluation.loss),
        **score.recorded_own(None if last is None else last.evaluation.own),
        **recorder.tables.told(last),
        "training_loss": None if last is None else last.entry.get("loss"),
        "waiting_for": sorted(node.protocol.waiting_for),
        "divergence": recorder.alarm.said,
        **spent_of(setup.learner.budget),
        "protocol": dict(node.protocol.status()),
        "neighbours": list(node.table.status()),
        "upload": node.table.upload(),
        "quorum": {"up": node.quorum.up, "needed": node.quorum.needed, "there": node.quorum.there},
        "checkpoint": recorder.saver.as_dict(),
        "phase_seconds": {**node.phases.as_dict(), "checkpoint": recorder.saver.seconds},
        "troubles": dict(node.contained.present()),
        "failures": dict(node.contained.counts()),
        "uptime_s": time.time() - node.started_s,
        "run_id": settings.run_id(),
        "space_id": setup.task.space.space_id,
        "device": str(setup.learner.device),
        "insecure": setup.options.insecure,
        **counts(node.accounting),
    }


def spent_of(budget: Budget | None) -> dict[str, Any]:
    """Return what summary.json and `status` say of `[privacy]`; {} without."""
    return {} if budget is None else {"privacy": budget.as_dict()}


def finite(value: float) -> float | None:
    """JSON knows neither NaN nor infinity."""
    return value if math.isfinite(value) else None


def counts(accounting: Accounting) -> dict[str, Any]:
    """Return bytes and messages as summary.json and `status` name them."""
    both = accounting.as_dict()
    received = both.pop("received")
    return {**both, "bytes_received": received["bytes"], "messages_received": received["messages"]}
