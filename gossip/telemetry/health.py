"""Whether a node is alive, and whether it is ready, as supervisors ask: each with the reasons where it is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LOOP_STALL_S = 15.0
"""The event loop publishes its status every second. One that has not for so long does not send heartbeats either, and
its neighbours count it as dead (`[net] heartbeat_timeout_s`)."""

AT_WORK = frozenset({"running", "lingering", "finished"})


@dataclass(frozen=True, slots=True)
class Published:
    """A status, and when the event loop said it."""

    status: Mapping[str, Any]
    said_s: float
    """In seconds of `time.monotonic`."""


def unhealthy(published: Published | None, now_s: float) -> list[str]:
    """Return why a supervisor should start the process again; [] for no reason.

    A missing neighbour or a full disk are none: another process would find the same.
    """
    if published is None:
        return ["the event loop has not begun"]
    silent_s = now_s - published.said_s
    return [f"the event loop has not turned for {silent_s:.0f} s"] if silent_s > LOOP_STALL_S else []


def not_ready(published: Published | None, now_s: float) -> list[str]:
    """Return why the node does not do its part of the learning, or would lose it; [] for no reason."""
    reasons = unhealthy(published, now_s)
    if published is None:
        return reasons
    status = published.status
    if status["state"] not in AT_WORK:
        reasons.append(f"the node is {status['state']}")
    quorum = status["quorum"]
    if not quorum["there"]:
        reasons.append(f"{quorum['up']} neighbours are up, at least {quorum['needed']} are needed")
    if status["checkpoint"]["error"] is not None:
        reasons.append(f"checkpoints cannot be written: {status['checkpoint']['error']}")
    return reasons
