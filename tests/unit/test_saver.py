"""What is told is on the disk: the writer of checkpoints, the measurements that wait for it, and its troubles."""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import trio
from hypothesis import given
from hypothesis import strategies as st

from gossip.learner import Evaluation
from gossip.node import saver as saving
from gossip.node.handles import Deferred
from gossip.node.held import HELD_MAX, Held, Measured
from gossip.node.saver import Saver
from gossip.node.scribe import Scribe
from gossip.telemetry.containment import TOLD_EVERY_S, Containment

PATIENCE_S = 20.0
EVALUATION = Evaluation(score=0.5, loss=1.0, samples=1)


class Disk:
    """Takes checkpoints once `open` is set, and fails with what is next in `errors`."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.open = threading.Event()
        self.open.set()
        self.rounds: list[int] = []
        self.tries = 0

    def write(self, round: Any) -> None:
        assert self.open.wait(PATIENCE_S)
        self.tries += 1
        if self.errors:
            raise self.errors.pop(0)
        self.rounds.append(round)


def with_saver(disk: Disk, body: Callable[[Saver, list[int]], Awaitable[None]]) -> None:
    """Run `body` beside a saver; it is also given the rounds that were told."""
    told: list[int] = []

    def on_saved(round: int) -> None:
        assert round in disk.rounds, "told before it was written"
        told.append(round)

    async def main() -> None:
        saver = Saver(lambda due: due.round, disk.write, round=0, on_saved=on_saved)  # type: ignore[arg-type,return-value]
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(saver.run)
                await body(saver, told)
                nursery.cancel_scope.cancel()

    trio.run(main)


def model() -> Deferred:
    return Deferred(1, torch.zeros(1))


def test_the_newest_that_is_due_wins_and_only_what_is_written_is_told() -> None:
    disk = Disk()
    disk.open.clear()

    async def body(saver: Saver, told: list[int]) -> None:
        saver.save(model(), {"round": 1})
        while saver._begun == 0:
            await trio.lowlevel.checkpoint()
        for round in (2, 3, 4, 5):
            saver.save(model(), {"round": round})
        assert (saver.round, saver.settled, told) == (0, False, [])
        disk.open.set()
        assert await saver.settle()
        assert (saver.round, told, disk.rounds) == (5, [1, 5], [1, 5])

    with_saver(disk, body)


def test_a_write_that_hangs_is_a_trouble_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "HANGS_S", -1.0)
    disk = Disk()
    disk.open.clear()

    async def body(saver: Saver, told: list[int]) -> None:
        saver.save(model(), {"round": 1})
        while saver._begun == 0:
            await trio.lowlevel.checkpoint()
        assert str(saver.as_dict()["error"]).startswith("the disk has not taken the newest for")
        disk.open.set()
        assert await saver.settle()
        assert saver.as_dict()["error"] is None

    with_saver(disk, body)


def test_a_checkpoint_waits_for_its_models_value() -> None:
    async def body(saver: Saver, told: list[int]) -> None:
        handle = Deferred(1)
        saver.save(handle, {"round": 1})
        await trio.testing.wait_all_tasks_blocked()
        assert (told, saver.settled) == ([], False)
        handle.set(torch.zeros(1))
        assert await saver.settle()
        assert told == [1]

    with_saver(Disk(), body)


def test_what_cannot_be_written_is_told_and_tried_again_after_growing_pauses_until_it_can(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(saving, "PAUSE_S", 0.001)
    monkeypatch.setattr(saving, "PAUSE_S_MAX", 0.004)
    errors = [OSError(28, "No space left on device"), RuntimeError("a bug"), MemoryError(), OSError(5, "I/O")]
    disk = Disk(*errors)

    async def body(saver: Saver, told: list[int]) -> None:
        saver.save(model(), {"round": 1})
        while saver.failures < 2:
            await trio.lowlevel.checkpoint()
        assert (saver.round, told, saver.error is None) == (0, [], False)
        assert saver.as_dict()["failures"] == saver.failures
        saver.save(model(), {"round": 2})
        while not saver.settled:
            await trio.lowlevel.checkpoint()
        assert (saver.round, told, saver.error, saver.failures) == (2, [2], None, 4)

    with caplog.at_level(logging.INFO, logger="gossip.node"):
        with_saver(disk, body)
    failed = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert [line.rpartition(" in ")[2] for line in failed] == ["0.001 s", "0.002 s", "0.004 s", "0.004 s"]
    assert failed[0].startswith("checkpoint of round 1 not written: No space left on device; the newest on")
    assert caplog.records[-1].getMessage() == "checkpoints are written again, that of round 2 is"


def test_leaving_tries_once_more_at_once_and_then_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "PAUSE_S", 10 * PATIENCE_S)
    disk = Disk(*[OSError(28, "No space left on device")] * 10)

    async def body(saver: Saver, told: list[int]) -> None:
        saver.save(model(), {"round": 1})
        while saver.failures < 1:
            await trio.lowlevel.checkpoint()
        assert not await saver.close()
        assert disk.tries == 2
        saver.save(model(), {"round": 2})
        disk.errors.clear()
        assert await saver.settle()
        assert told == [1], "who has closed takes nothing more"

    with_saver(disk, body)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3))))
def test_measurements_are_told_in_order_once_and_never_before_their_round_is_on_the_disk(
    steps: list[tuple[bool, int]],
) -> None:
    saved = measured = 0
    told: list[int] = []

    def tell(one: Measured) -> None:
        assert one.round <= saved
        told.append(one.round)

    held = Held(tell, round=0)
    for is_saved, by in steps:
        if is_saved:
            saved += by  # a checkpoint may be there before its round is evaluated, or after
            held.saved(saved)
        else:
            measured += by + 1
            held.add(Measured({"round": measured}, EVALUATION))
    held.saved(saved := max(saved, measured))
    assert told == sorted(set(told))
    assert len(told) == sum(not is_saved for is_saved, _ in steps)


def test_measurements_that_wait_are_bounded_and_the_oldest_go() -> None:
    told: list[int] = []
    held = Held(lambda one: told.append(one.round), round=0)
    for round in range(1, HELD_MAX + 3):
        held.add(Measured({"round": round}, EVALUATION))
    held.saved(HELD_MAX + 2)
    assert (told[0], len(told), held.dropped) == (3, HELD_MAX, 2)


def test_a_scribe_writes_in_order_and_a_job_that_fails_is_contained() -> None:
    contained = Containment()
    done: list[int] = []

    def job(number: int) -> None:
        if number == 2:
            raise RuntimeError("broken")
        done.append(number)

    async def main() -> None:
        scribe = Scribe(contained)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scribe.run)
            for number in range(5):
                scribe.put("lines", lambda number=number: job(number))  # type: ignore[misc]
            await scribe.flush()
            assert done == [0, 1, 3, 4]
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert contained.counts() == {"lines": 1}
    assert contained.present() == {}, "the next one worked"


def test_a_scribe_that_hangs_keeps_nobody_from_leaving_and_its_queue_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gossip.node.scribe.JOBS_MAX", 3)
    contained, release = Containment(), threading.Event()
    ended: list[bool] = []

    async def main() -> None:
        scribe = Scribe(contained)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scribe.run)
            for _ in range(20):
                scribe.put("lines", lambda: ended.append(release.wait(PATIENCE_S)))
                await trio.testing.wait_all_tasks_blocked()
            with trio.move_on_after(0.01) as waiting:
                await scribe.flush()
            assert waiting.cancelled_caught
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert not ended, "the job in hand was waited for"
    release.set()
    assert contained.counts()["lines"] >= 16


def test_trouble_that_stays_costs_a_line_a_minute_with_a_count(caplog: pytest.LogCaptureFixture) -> None:
    now = SimpleNamespace(s=0.0)
    contained = Containment(clock=lambda: now.s)
    with caplog.at_level(logging.INFO, logger="gossip.node"):
        for second in range(130):
            now.s = float(second)
            with contained("metrics not written"):
                raise OSError(28, "No space left on device")
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1 + 130 // int(TOLD_EVERY_S)
    assert said[0] == "metrics not written: No space left on device; learning goes on"
    assert said[1] == "metrics not written (60 times): No space left on device; learning goes on"
    assert contained.present() == {"metrics not written": "No space left on device"}


def test_cancellation_and_ctrl_c_are_not_contained() -> None:
    contained = Containment()

    async def main() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            with contained("x"):
                await trio.lowlevel.checkpoint()
            raise AssertionError("the cancellation was swallowed")

    trio.run(main)
    with pytest.raises(KeyboardInterrupt), contained("x"):
        raise KeyboardInterrupt
    assert contained.counts() == {}


def test_a_log_that_raises_ends_nothing() -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("broken")

    logger, broken = logging.getLogger("gossip.node"), Broken()
    logger.addHandler(broken)
    try:
        with Containment()("x"):
            raise OSError("full")
    finally:
        logger.removeHandler(broken)
