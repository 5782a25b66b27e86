"""What a node writes down: checkpoint, metrics, events, summary, the finished model, and a line for the user."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import trio

from gossip.errors import SettingError
from gossip.node.handles import Deferred
from gossip.protocols.base import ModelAdopted, RoundCompleted
from gossip.storage.atomic import write_atomically
from gossip.storage.checkpoints import Checkpoint, CheckpointStore
from gossip.storage.models import encode_model, encode_snapshot
from gossip.storage.run_record import RunRecord
from gossip.telemetry.accounting import Accounting
from gossip.telemetry.progress import Progress
from gossip.telemetry.rejections import Rejections
from gossip.telemetry.verdicts import Verdicts

if TYPE_CHECKING:
    from gossip.learner import Evaluation, Trained
    from gossip.node.setup import Setup
    from gossip.node.work import LearningThread

logger = logging.getLogger("gossip.node")

EVENTS_MAX = 100_000
"""Lines of events.jsonl per process: a neighbour that flaps for weeks must not fill the disk."""


@dataclass(frozen=True, slots=True)
class _Due:
    """A checkpoint that is still to be written."""

    model: Deferred
    state: Mapping[str, int | float | str]


class Recorder:
    """Writes the home. Checkpoints go through a thread of their own; the newest one that is due wins."""

    def __init__(self, setup: Setup, accounting: Accounting) -> None:
        self._setup = setup
        self._settings = setup.membership.settings
        self._name = setup.membership.me.name
        self._home = setup.options.home
        self._accounting = accounting
        self._record = RunRecord(self._home, self._name)
        self._checkpoints = CheckpointStore(self._home)
        self._progress = Progress(as_json=setup.options.as_json, rounds=self._settings.stop.rounds)
        self._due: _Due | None = None
        self._wake = trio.Event()
        self._idle = trio.Event()
        self._round_began_s = time.monotonic()
        self._began_s = time.time()
        self._events = 0
        self._adopted = 0
        self._disk_errors: set[str] = set()
        self._flushing = False
        self.last_evaluation: Evaluation | None = None
        self.verdicts = Verdicts()
        self._rejections = Rejections()

    def started(self, round: int) -> None:
        """Note the start; on a resume put the records back to the checkpoint's round."""
        with self._disk("records"):
            self._record.resume_at(round)
        if round:
            logger.info("resuming after round %d", round)
        self.event("started", round=round)
        self._round_began_s = time.monotonic()

    def event(self, name: str, **details: Any) -> None:
        """Add a line to events.jsonl."""
        self._events += 1
        if self._events <= EVENTS_MAX:
            with self._disk("events"):
                self._record.event(name, **details)

    def rejected(self, other: str | None, reason: str, sentence: str | None = None) -> None:
        """Note that something received was not used; `count` says how many times by now, see `Rejections`."""
        count = self._rejections.note(other, reason)
        if count is not None:
            said = {} if sentence is None else {"sentence": sentence}
            self.event("rejected", other=other, reason=reason, count=count, **said)

    @contextmanager
    def _disk(self, what: str) -> Iterator[None]:
        """A full disk must not end the learning: say it once for each kind of file, and try again with the next."""
        try:
            yield
        except OSError as error:
            if what not in self._disk_errors:
                logger.error("%s not written: %s", what, error.strerror or error)
            self._disk_errors.add(what)
        else:
            self._disk_errors.discard(what)

    def adopted(self, event: ModelAdopted) -> None:
        """Count and note that a neighbour's model was taken over."""
        self._adopted += 1
        self.event("adopted", other=event.sender, round=event.round)

    def round_completed(
        self,
        event: RoundCompleted,
        trained: Trained | None,
        state: Mapping[str, int | float | str],
        thread: LearningThread,
    ) -> None:
        """Ask for the checkpoint, and for the evaluation when it is due."""
        self.save(event.model, state)
        now = time.monotonic()
        seconds, self._round_began_s = now - self._round_began_s, now
        last = event.round >= self._settings.stop.rounds
        if event.round % self._settings.evaluate.every and not last:
            return
        entry = {
            "peer": self._name,
            "round": event.round,
            "time": time.time(),
            "loss": None if trained is None else _finite(trained.loss),
            "heard": event.heard,
            "expected": event.expected,
            "bytes_sent": self._accounting.sent.total,
            "bytes_received": self._accounting.received.total,
            "seconds": seconds,
        }
        thread.submit(lambda: self._evaluate(event), lambda evaluation: self._evaluated(entry, evaluation))

    def _evaluate(self, event: RoundCompleted) -> Evaluation:
        """In the learning thread: test the model, and keep a snapshot if asked."""
        vector = event.model.vector
        if self._settings.evaluate.snapshots:
            folder = self._home / "snapshots"
            with self._disk("snapshots"):
                folder.mkdir(exist_ok=True)
                write_atomically(
                    folder / f"round-{event.round:08d}.safetensors", encode_snapshot(vector), durable=False
                )
        return self._setup.learner.evaluate(vector)

    def _evaluated(self, entry: dict[str, Any], evaluation: Evaluation) -> None:
        self.last_evaluation = evaluation
        entry |= {"accuracy": evaluation.accuracy, "test_loss": _finite(evaluation.loss)}
        # Every merge of these rounds was computed before the evaluation.
        verdicts = self.verdicts.take(entry["round"])
        if verdicts:
            entry["verdicts"] = verdicts
        with self._disk("metrics"):
            self._record.metrics(entry)
        self._progress.round(entry)

    # --- checkpoints ---

    def save(self, model: Deferred, state: Mapping[str, int | float | str]) -> None:
        """Ask for a checkpoint; one that is still waiting to be written gives way to it."""
        if self._flushing:
            return  # a neighbour's fast rounds would keep us from ever leaving; this one is done again on resume
        self._due = _Due(model, dict(state))
        self._idle = trio.Event()
        self._wake.set()

    async def run(self) -> None:
        """Write checkpoints as they come due, until cancelled."""
        while True:
            if self._due is None:
                self._idle.set()
                self._wake = trio.Event()
                await self._wake.wait()
                continue
            due, self._due = self._due, None
            await due.model.wait()
            await self._write(due)

    async def _write(self, due: _Due) -> None:
        checkpoint = Checkpoint(
            belongs=self._setup.belongs,
            protocol=self._settings.protocol.kind,
            state=due.state,
            vector=due.model.vector.numpy(),
            counters=self._accounting.as_dict(),
        )
        with self._disk("checkpoints"):
            await trio.to_thread.run_sync(self._checkpoints.save, checkpoint)

    async def flush(self) -> None:
        """Wait until the newest checkpoint is on disk; from now on no other is taken."""
        self._flushing = True
        await self._idle.wait()

    # --- the end ---

    async def finish(self, model: Deferred, thread: LearningThread) -> bool:
        """Write HOME/model.safetensors after everything asked before has been computed; return whether that worked."""
        done = trio.Event()

        def job() -> None:
            with self._disk("the model"):
                self._write_model(model.vector)

        thread.submit(job, lambda _: done.set())
        await done.wait()
        self.event("finished")
        return "the model" not in self._disk_errors

    def _write_model(self, vector: torch.Tensor) -> None:
        data = encode_model(self._setup.task.space, vector, frozen=self._setup.task.frozen, peer=self._name)
        write_atomically(self._home / "model.safetensors", data)

    def summary(self, state: str, round: int) -> None:
        """Write summary.json."""
        last = self.last_evaluation
        entry = {
            "peer": self._name,
            "state": state,
            "rounds": round,
            "accuracy": None if last is None else last.accuracy,
            "test_loss": None if last is None else _finite(last.loss),
            "seconds": time.time() - self._began_s,
            "run_id": self._settings.run_id(),
            "space_id": self._setup.task.space.space_id,
            "adopted": self._adopted,
            "verdicts": self.verdicts.as_dict(),
            "verdicts_on_others": self.verdicts.others_as_dict(),
            "weights": self.verdicts.weights(),
            **counts(self._accounting),
        }
        with self._disk("summary.json"):
            self._record.summary(entry)

    def complete(self, checkpoint: Checkpoint) -> None:
        """Write what a run did not come to write that was killed after its last checkpoint.

        Raises:
            SettingError: the home cannot be written.
        """
        if (self._home / "model.safetensors").exists() and (self._home / "summary.json").exists():
            return
        vector = torch.from_numpy(checkpoint.vector)
        try:
            self._write_model(vector)
        except OSError as error:
            raise SettingError(f"--home {self._home}: cannot be written: {error.strerror}") from None
        self.last_evaluation = self._setup.learner.evaluate(vector)
        self.summary("finished", checkpoint.round)


def _finite(value: float) -> float | None:
    """JSON knows neither NaN nor infinity."""
    return value if math.isfinite(value) else None


def counts(accounting: Accounting) -> dict[str, Any]:
    """Return bytes and messages as summary.json and `status` name them."""
    both = accounting.as_dict()
    received = both.pop("received")
    return {**both, "bytes_received": received["bytes"], "messages_received": received["messages"]}
