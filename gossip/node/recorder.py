"""What a node writes down: checkpoint, metrics, events, summary, the finished model, and a line for the user.

Nothing here ends the learning, whatever fails, and nothing here is waited for by the event loop. What is told of a
round – in metrics.jsonl, on standard output, by `gossip-node status` and to Prometheus – is told once its checkpoint is
on the disk.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import trio

from gossip import plugins
from gossip.errors import SettingError
from gossip.learning.divergence import EVENT, is_told, rms_of
from gossip.node.alarm import Alarm
from gossip.node.best import Best
from gossip.node.handles import Pending
from gossip.node.held import Held, Measured
from gossip.node.model_files import ModelFiles
from gossip.node.report import counts, finite, spent_of
from gossip.node.saver import Due, Saver
from gossip.node.scribe import Scribe
from gossip.node.tables import NodeTable
from gossip.protocols.base import ModelAdopted, RoundCompleted
from gossip.protocols.stopping import ROUNDS
from gossip.storage.atomic import write_atomically
from gossip.storage.checkpoints import Checkpoint, CheckpointStore
from gossip.storage.models import BEST, MODEL, snapshot_pieces
from gossip.storage.run_record import RunRecord, clean_home
from gossip.telemetry.accounting import Accounting
from gossip.telemetry.containment import Containment, said_of, tell
from gossip.telemetry.progress import Progress
from gossip.telemetry.rejections import Rejections
from gossip.telemetry.verdicts import Verdicts

if TYPE_CHECKING:
    from gossip.learner import Evaluation, Trained
    from gossip.node.handles import Deferred
    from gossip.node.learning_thread import LearningThread
    from gossip.node.phases import Phases
    from gossip.node.setup import Setup
    from gossip.protocols.base import Protocol

logger = logging.getLogger("gossip.node")

EVENTS_MAX = 100_000
"""Lines of events.jsonl per process: a neighbour that flaps for weeks must not fill the disk."""


class Recorder:
    """Writes the home, and tells the user."""

    def __init__(
        self,
        setup: Setup,
        accounting: Accounting,
        contained: Containment | None = None,
        thread: LearningThread | None = None,
    ) -> None:
        self._thread = thread
        self._setup = setup
        self._settings = setup.membership.settings
        self._name = setup.membership.me.name
        self._score = setup.task.objective.score
        self._home = setup.options.home
        self._accounting = accounting
        self._contained = Containment() if contained is None else contained
        self._record = RunRecord(self._home, self._name)
        self._checkpoints = CheckpointStore(self._home)
        self._progress = Progress(
            as_json=setup.options.as_json, rounds=self._settings.stop.rounds, score=self._score
        )
        # A second thread: whoever does not read our lines must not keep the records from the disk.
        self._disk = Scribe(self._contained)
        self._terminal = Scribe(self._contained)
        # A third: a logger may speak to a server that does not answer.
        self._logging = Scribe(self._contained)
        self._logger = setup.logger
        round = setup.checkpoint.round if setup.checkpoint else 0
        self.alarm = Alarm(setup, self.event, self._contained)
        self.saver = Saver(self._checkpoint, self._checkpoints.save, round=round, on_saved=self._saved)
        self._held = Held(self._tell, round=round)
        self._round_began_s = time.monotonic()
        self._began_s = time.time()
        self._events = 0
        self._adopted = 0
        self._model_written = False
        self._models = ModelFiles(setup, self._contained)
        self.tables = NodeTable(setup)
        self._best: Best | None = None
        if self._settings.stop.early or self._settings.evaluate.keep_best:
            self._best = Best(self._home / BEST, self._score, self._models.write_best)
        self._protocol: Protocol | None = None
        self._on_score: Callable[[int, float | None], None] = lambda round, score: None
        self._round = round
        """Rounds of the newest model."""
        self.finished = False
        """Whether the finished model and the last checkpoint are on the disk."""
        self.last: Measured | None = None
        """The newest measurement of a round that is on the disk."""
        self.verdicts = Verdicts()
        self._rejections = Rejections()

    def attend(self, protocol: Protocol, on_score: Callable[[int, float | None], None]) -> None:
        """Tell `on_score` of own scores, where the run may stop by them, and ask the protocol why it has stopped."""
        self._protocol = protocol
        self.tables.attend(protocol)
        if self._settings.stop.early:
            self._on_score = on_score

    async def run(self) -> None:
        """Write until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.saver.run)
            nursery.start_soon(self._disk.run)
            nursery.start_soon(self._terminal.run)
            nursery.start_soon(self._logging.run)

    def started(self, round: int) -> None:
        """Note the start; on a resume put the records back to the checkpoint's round."""
        with self._contained("leftovers not removed"):
            # Before anything is written: what is being written looks the same.
            clean_home(self._home)
        if round and self._best is not None:
            self._best.found(run_id=self._settings.run_id())
        self._disk.put("records not put back to the checkpoint", partial(self._put_back, round))
        self._logging.put("measurements not logged", partial(self._logger.begin, round))
        if round:
            logger.info("resuming after round %d", round)
        self.event("started", round=round)
        self._round_began_s = time.monotonic()

    def _put_back(self, round: int) -> None:
        found = self._record.resume_at(round)
        diverged = self._record.first_event(EVENT)
        if diverged is not None and is_told(diverged):
            self.alarm.resumed(diverged)
        if found.nonsense:
            logger.warning("%d lines of metrics.jsonl were no measurements and are dropped", found.nonsense)
        if round:
            # A kill between a checkpoint and its line leaves a gap, which is nowhere else to be seen.
            self._record.event("records_put_back", round=round, measured=found.measured)

    def event(self, name: str, **details: Any) -> None:
        """Add a line to events.jsonl."""
        self._events += 1
        if self._events <= EVENTS_MAX:
            job = partial(self._record.event, name, time_s=time.time(), **details)
            self._disk.put("events not written", job)

    def rejected(self, other: str | None, reason: str, sentence: str | None = None) -> None:
        """Note that something received was not used; `count` says how many times by now, see `Rejections`."""
        with self._contained("rejections not told"):
            count = self._rejections.note(other, reason)
            if count is not None:
                said = {} if sentence is None else {"sentence": sentence}
                self.event("rejected", other=other, reason=reason, count=count, **said)

    def judged(self, round: int, sender: str, weight: float, reason: str) -> None:
        """Note what became of one model of `sender` in the merge of `round`."""
        with self._contained("verdicts not told"):
            self.verdicts.note(round, sender, weight, reason)

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
        phases: Phases,
    ) -> None:
        """Ask for the checkpoint, and for the evaluation when it is due."""
        self.save(event.model, state)
        now = time.monotonic()
        seconds, self._round_began_s = now - self._round_began_s, now
        self._round = event.round
        last = event.last or event.round >= self._settings.stop.rounds
        if event.round % self._settings.evaluate.every and not last:
            return
        entry = {
            "peer": self._name,
            "round": event.round,
            "time": time.time(),
            "loss": None if trained is None else finite(trained.loss),
            "heard": event.heard,
            "expected": event.expected,
            "bytes_sent": self._accounting.sent.total,
            "bytes_received": self._accounting.received.total,
            "seconds": seconds,
            "phases": dict(phases.of_round(event.round)),
        }
        budget = self._setup.learner.budget
        if budget is not None:
            entry["epsilon"] = budget.epsilon

        def evaluated(outcome: tuple[Evaluation, float, float | None]) -> None:
            if before:
                entry["score_before_final"] = finite(before[0].score)
            phases.evaluated()
            evaluation, rms, own = outcome
            self.alarm.evaluated(event.round, evaluation, rms)
            self._evaluated(entry, evaluation)
            self._on_score(event.round, own)

        self.tables.measure(thread, entry)
        before: list[Evaluation] = []
        ended: Deferred | None = event.before
        if ended is not None:
            thread.submit(lambda: self._setup.learner.evaluate(ended.vector), before.append)
        thread.submit(lambda: self._evaluate(event), evaluated)

    def _evaluate(self, event: RoundCompleted) -> tuple[Evaluation, float, float | None]:
        """In the learning thread: test the model and measure its weights, and keep it if asked, or if it is the best.

        The last is its own score, by which models are chosen; None where that is not asked for.
        """
        vector = event.model.vector
        if self._settings.evaluate.snapshots:
            folder = self._home / "snapshots"
            with self._contained("snapshots not written"):
                folder.mkdir(exist_ok=True)
                write_atomically(
                    folder / f"round-{event.round:08d}.safetensors", snapshot_pieces(vector), durable=False
                )
        learner, own = self._setup.learner, None
        evaluation = learner.evaluate(vector)
        if self._best is not None:
            own = learner.own_score(vector, evaluation).score
            with self._contained("the best model not written"):
                self._best.offer(vector, round=event.round, score=own)
        return evaluation, rms_of(vector[: self._setup.task.space.learned_size]), own

    def _evaluated(self, entry: dict[str, Any], evaluation: Evaluation) -> None:
        entry |= {**self._score.recorded(evaluation.score), "test_loss": finite(evaluation.loss)}
        entry |= self._score.recorded_own(evaluation.own)
        with self._contained("verdicts not told"):
            # Every merge of these rounds was computed before the evaluation.
            verdicts = self.verdicts.take(entry["round"])
            if verdicts:
                entry["verdicts"] = verdicts
        with self._contained("measurements not told"):
            self._held.add(Measured(entry, evaluation))

    def _tell(self, measured: Measured) -> None:
        """Tell of a round that is on the disk."""
        self.last = measured
        self._disk.put("metrics not written", partial(self._record.metrics, measured.entry))
        self._terminal.put("progress not shown", partial(self._progress.round, measured.entry))
        self._logging.put("measurements not logged", partial(self._logger.log, dict(measured.entry)))

    # --- checkpoints ---

    def save(self, model: Deferred, state: Mapping[str, int | float | str]) -> None:
        """Ask for a checkpoint, see `Saver`; what the learning remembers is copied behind all that was asked of it."""
        remembered, rows = self._setup.learner.state, None
        if self._thread is not None and not remembered.empty:
            rows = Pending[dict[str, torch.Tensor]]()
            self._thread.submit(lambda: remembered.export(0), rows.set)
        self.saver.save(model, state, rows)

    def _checkpoint(self, due: Due) -> Checkpoint:
        return Checkpoint(
            belongs=self._setup.belongs,
            protocol=plugins.short_name(self._settings.protocol.kind),
            state=due.state,
            vector=due.model.vector.numpy(),
            rows={} if due.rows is None else {name: row.numpy() for name, row in due.rows.value.items()},
            counters=self._accounting.as_dict(),
            privacy_steps=None if self._setup.learner.budget is None else self._setup.learner.budget.steps,
            saved_s=time.time(),
        )

    def _saved(self, round: int) -> None:
        with self._contained("measurements not told"):
            self._held.saved(round)

    # --- the end ---

    async def finish(self, model: Deferred, thread: LearningThread) -> bool:
        """Bring HOME/model.safetensors and the last checkpoint to the disk; return whether both are there.

        It waits until everything that was asked before has been computed. May be called again where it has failed.
        """
        done = trio.Event()
        if not self._model_written:
            thread.submit(lambda: self._try_model(model.vector), lambda _: done.set())
            await done.wait()
        if await self.saver.settle() and self._model_written and not self.finished:
            self.finished = True
            self.event("finished")
            with self._contained("MODEL.md not written"):
                # Only now is the last round's measurement the newest that may be told.
                page = partial(self._models.write_card, self._summary("finished"))
                self._disk.put("MODEL.md not written", page)
            tell(logging.INFO, self._told_at_the_end())
        return self.finished

    def _told_at_the_end(self) -> str:
        """Return where the model is, and how good."""
        path, last = self._home / MODEL, self.last
        if last is None:
            return f"done: the model is in {path}; it was not evaluated"
        measured = last.evaluation
        early = "" if self._stopped == ROUNDS else f", upon which the peers agreed ({self._stopped})"
        score = f"{self._score.label} {self._score.told(measured.score)} on {measured.samples} test samples"
        if measured.own is not None:
            own = measured.own
            score += f", {self._score.told(own.score)} on {own.samples} own test samples,"
        return f"done: the model is in {path}; {score} after round {last.round} of {self._settings.stop.rounds}{early}"

    def _try_model(self, vector: torch.Tensor) -> None:
        with self._contained("the model not written"):
            self._write_model(vector)
            self.tables.write(self._home)
            self._model_written = True

    def _write_model(self, vector: torch.Tensor) -> None:
        rounds = self._settings.stop.rounds if self._stopped == ROUNDS else self._round
        self._models.write(vector, rounds=rounds)

    @property
    def _stopped(self) -> str:
        """Why the run has ended, once it has."""
        if self._protocol is None:
            return self._setup.stopped or ROUNDS
        return self._protocol.why_stopped()

    async def flush(self) -> None:
        """Wait until all lines are written, and what the user is shown is shown; and end the logger."""
        self._logging.put("the logger not closed", self._logger.end)
        await self._disk.flush()
        await self._terminal.flush()
        await self._logging.flush()

    def summary(self, state: str) -> None:
        """Have summary.json written."""
        with self._contained("summary.json not written"):
            entry = self._summary(state)
            self._disk.put("summary.json not written", partial(self._record.summary, entry))

    def _summary(self, state: str) -> dict[str, Any]:
        last = self.last
        return {
            "peer": self._name,
            "state": state,
            "rounds": self.saver.round,
            "stopped": self._stopped if state == "finished" else None,
            "stopped_round": self.saver.round if state == "finished" else None,
            **(
                {} if self._best is None else {"best_score": self._best.score, "best_round": self._best.round}
            ),
            **self._score.recorded(None if last is None else last.evaluation.score),
            "objective": self._score._asdict(),
            "test_loss": None if last is None else finite(last.evaluation.loss),
            "test_samples": len(self._setup.task.dataset.y_test),
            **self._score.recorded_own(None if last is None else last.evaluation.own),
            **self.tables.told(last),
            "seconds": time.time() - self._began_s,
            "run_id": self._settings.run_id(),
            "space_id": self._setup.task.space.space_id,
            "adopted": self._adopted,
            "skipped": self.alarm.skipped,
            "divergence": self.alarm.said,
            **spent_of(self._setup.learner.budget),
            "verdicts": self.verdicts.as_dict(),
            "verdicts_on_others": self.verdicts.others_as_dict(),
            "weights": self.verdicts.weights(),
            **counts(self._accounting),
        }

    def complete(self, checkpoint: Checkpoint) -> None:
        """Write what a run did not come to write that was killed after its last checkpoint.

        Raises:
            SettingError: the home cannot be written.
        """
        if all((self._home / name).exists() for name in (MODEL, "summary.json", *self.tables.files)):
            return
        vector = torch.from_numpy(checkpoint.vector)
        try:
            self._write_model(vector)
            told = {"round": checkpoint.round, **self.tables.complete(checkpoint.state, self._home)}
            self.last = Measured(told, self._setup.learner.evaluate(vector))
            summary = self._summary("finished")
            self._models.write_card(summary)
            self._record.summary(summary)
        except OSError as error:
            raise SettingError(f"--home {self._home}: cannot be written: {said_of(error)}") from None
