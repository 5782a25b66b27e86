"""What is to happen, in the order of time and, at equal times, in the order in which it was asked for.

Peers in step act at the very same moments, thousands at once. A heap of all events would compare each with many others,
scattered over memory; here a heap holds only the distinct times, and a queue for each holds its events.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

Entry: TypeAlias = tuple[Callable[..., None], tuple[Any, ...]]


class Agenda:
    """A priority queue of calls."""

    __slots__ = ("_queues", "_times")

    def __init__(self) -> None:
        self._times: list[float] = []
        self._queues: dict[float, deque[Entry]] = {}

    def add(self, time_s: float, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        """Put a call down for `time_s`, behind those that are there for the same time."""
        queue = self._queues.get(time_s)
        if queue is None:
            queue = self._queues[time_s] = deque()
            heapq.heappush(self._times, time_s)
        queue.append((function, arguments))

    def put_back(self, time_s: float, entry: Entry) -> None:
        """Put a call before all others for the earliest time."""
        self._queues[time_s].appendleft(entry)

    def next_time_s(self) -> float:
        """Return the earliest time at which something is to happen, infinite where nothing is."""
        return self._times[0] if self._times else float("inf")

    def at(self, time_s: float) -> deque[Entry]:
        """Return the calls for the earliest time; what is added for it meanwhile joins at the end."""
        return self._queues[time_s]

    def done(self, time_s: float) -> None:
        """Forget the earliest time, whose calls have all been made."""
        heapq.heappop(self._times)
        del self._queues[time_s]

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())
