"""When checkpoints are written, and what is on the disk: the rounds that a node may call done.

A checkpoint is written in a thread of its own, and the newest one that is due wins: where the disk is slower than the
rounds, rounds in between are never written, and the round that is told jumps. Rounds never wait for the disk.

A checkpoint that cannot be written is told and tried again after growing pauses – by then a newer one – for as long as
the node lives. Learning goes on; what is lost by a kill then grows, and status, log and metrics say so.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio

from gossip.telemetry.containment import said_of, tell

if TYPE_CHECKING:
    from torch import Tensor

    from gossip.node.handles import Deferred, Pending
    from gossip.storage.checkpoints import Checkpoint

PAUSE_S = 1.0
PAUSE_S_MAX = 60.0
"""Between two tries: a short trouble costs few rounds, a long one neither time nor log."""

HANGS_S = 60.0
"""A write that takes longer is a trouble to tell, as one that fails; a slow disk needs seconds for a large model."""


@dataclass(frozen=True, slots=True)
class Due:
    """A checkpoint that is still to be written."""

    model: Deferred
    state: Mapping[str, int | float | str]
    rows: Pending[dict[str, Tensor]] | None = None
    """What is remembered beside the model."""

    @property
    def round(self) -> int:
        """Rounds done."""
        return int(self.state["round"])


class Saver:
    """Writes checkpoints as they come due.

    Args:
        make: a checkpoint of what is due; called in the event loop, once the model is computed.
        write: brings it to the disk before it returns; called in a thread, may fail with anything.
        round: of the checkpoint that is on the disk already, 0 where there is none.
        on_saved: is told the round of each checkpoint that has reached the disk.
    """

    def __init__(
        self,
        make: Callable[[Due], Checkpoint],
        write: Callable[[Checkpoint], object],
        *,
        round: int,
        on_saved: Callable[[int], None],
    ) -> None:
        self._make = make
        self._write = write
        self._on_saved = on_saved
        self.round = round
        """Of the newest checkpoint on the disk: rounds that no kill undoes."""
        self.saved_s: float | None = None
        """When it was written, in seconds of `time.monotonic`."""
        self.failures = 0
        self.error: str | None = None
        """Why the last try failed; None where it did not."""
        self.seconds = 0.0
        """What all writing together took, failures included."""
        self._due: Due | None = None
        self._writing = False
        self._writing_since_s: float | None = None
        self._begun = 0
        self._ended = 0
        self._closed = False
        self._hurry = trio.Event()
        self._changed = trio.Event()
        self._limiter = trio.CapacityLimiter(1)

    def save(
        self,
        model: Deferred,
        state: Mapping[str, int | float | str],
        rows: Pending[dict[str, Tensor]] | None = None,
    ) -> None:
        """Ask for a checkpoint; one that is still waiting to be written gives way to it."""
        if self._closed:
            return  # a neighbour's fast rounds would keep us from ever leaving; this one is done again on resume
        self._due = Due(model, dict(state), rows)
        self._pulse()

    @property
    def settled(self) -> bool:
        """Whether all that was asked for is on the disk."""
        return self._due is None and not self._writing

    async def run(self) -> None:
        """Write until cancelled; a write that hangs is abandoned then."""
        pause_s = PAUSE_S
        while True:
            if self._due is None:
                await self._changed.wait()
                continue
            due, self._due = self._due, None
            self._writing = True
            await due.model.wait()
            if due.rows is not None:
                await due.rows.wait()
            self._begun += 1
            error = await self._try(due)
            self._writing = False
            self._ended += 1
            if error is None:
                pause_s = PAUSE_S
                self._written(due)
                self._pulse()
                # Else its model would live until the next one is due.
                del due
                continue
            self._due = self._due or due
            self._failed(due, error, pause_s)
            self._pulse()
            with trio.move_on_after(pause_s):
                await self._hurry.wait()
            self._hurry = trio.Event()
            pause_s = min(2 * pause_s, PAUSE_S_MAX)

    async def _try(self, due: Due) -> Exception | None:
        began_s = self._writing_since_s = time.monotonic()
        try:
            checkpoint = self._make(due)
            await trio.to_thread.run_sync(
                self._write, checkpoint, limiter=self._limiter, abandon_on_cancel=True
            )
        except Exception as error:  # no room, no memory, no right: learning goes on
            return error
        finally:
            self.seconds += time.monotonic() - began_s
            self._writing_since_s = None
        return None

    def _written(self, due: Due) -> None:
        if self.error is not None:
            tell(logging.WARNING, f"checkpoints are written again, that of round {due.round} is")
        self.error = None
        self.round = due.round
        self.saved_s = time.monotonic()
        self._on_saved(due.round)

    def _failed(self, due: Due, error: Exception, pause_s: float) -> None:
        self.failures += 1
        self.error = said_of(error)
        tell(
            logging.ERROR,
            f"checkpoint of round {due.round} not written: {self.error}; the newest on the disk is of round "
            f"{self.round}, and a restart would go on from there; learning goes on, tried again in {pause_s:g} s",
        )

    @property
    def trouble(self) -> str | None:
        """Why rounds are not saved, None where they are."""
        if self._writing_since_s is not None:
            for_s = time.monotonic() - self._writing_since_s
            if for_s > HANGS_S:
                return f"the disk has not taken the newest for {for_s:.0f} s"
        return self.error

    async def settle(self) -> bool:
        """Wait until all that was asked for is on the disk, or one more try has failed; return whether it is there."""
        last = self._begun + 1
        self._hurry.set()
        while not self.settled and self._ended < last:
            await self._changed.wait()
        return self.settled

    async def close(self) -> bool:
        """The same, and from now on nothing else is taken."""
        self._closed = True
        return await self.settle()

    def _pulse(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def as_dict(self) -> dict[str, Any]:
        """Return what `gossip-node status` says of checkpoints."""
        age_s = None if self.saved_s is None else time.monotonic() - self.saved_s
        return {"round": self.round, "age_s": age_s, "failures": self.failures, "error": self.trouble}
