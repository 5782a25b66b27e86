"""What a node tells is on its disk, whatever the disk does; and whatever only tells may break without ending it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from gossip.errors import CheckpointError, ExitCode, NetworkError, SettingError
from gossip.learner import Evaluation, Learner
from gossip.net.neighbours import NeighbourTable
from gossip.node import home as homes
from gossip.node import model_files
from gossip.node import saver as saving
from gossip.node.node import Node
from gossip.node.options import NodeOptions
from gossip.node.recorder import Recorder
from gossip.node.report import status_of
from gossip.node.running import run_node
from gossip.node.setup import find_membership, load_learning
from gossip.node.status import ask_status, serve_status
from gossip.storage import atomic
from gossip.storage.checkpoints import CheckpointStore
from gossip.storage.run_record import RunRecord, read_lines
from gossip.telemetry.accounting import Accounting
from gossip.telemetry.containment import Containment
from gossip.telemetry.logs import set_up_logging
from gossip.telemetry.progress import Progress
from gossip.telemetry.rejections import Rejections
from gossip.telemetry.verdicts import Verdicts
from gossip.telemetry.web import Web
from tests.integration.homes import PATIENCE_S, eventually, forked, make_homes

TASK = (
    "data.partition.kind=own",
    "model.hidden=[4]",
    "local.steps=1",
    "topology.kind=full",
    "node.linger_s=0.2",
    "node.start_timeout_s=5.0",
)


@pytest.fixture
def options(tmp_path: Path) -> NodeOptions:
    """A peer that is alone in its file and learns next to nothing, fast."""
    x = np.eye(4, dtype=np.float32)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=np.arange(4) % 2, x_test=x, y_test=np.arange(4) % 2)
    overrides = (*TASK, f"data.source={tmp_path / 'd.npz'}")
    peers = make_homes(tmp_path, ("alice",))
    return NodeOptions(peers=peers, home=tmp_path / "alice", overrides=overrides)


def run(options: NodeOptions, *more: str, make: Callable[[Any], Node] = Node) -> ExitCode:
    """Run a node in this process to its end."""
    options = replace(options, overrides=(*options.overrides, *more))
    return run_node(load_learning(options, find_membership(options)), make)


def rounds_told(home: Path) -> list[int]:
    return [entry["round"] for entry in read_lines(home / "metrics.jsonl")]


def test_the_page_about_the_model_tells_of_its_last_round_on_a_slow_disk_and_after_a_kill(
    options: NodeOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, seen = CheckpointStore.save, []

    def slow(*given: Any) -> None:
        time.sleep(0.1)
        save(*given)

    monkeypatch.setattr(CheckpointStore, "save", slow)
    monkeypatch.setattr(model_files, "card", lambda about, summary, **_: seen.append(dict(summary)) or "")
    assert run(options, "stop.rounds=5", "model.hidden=[16]", "local.steps=5") == ExitCode.DONE
    summary = json.loads((options.home / "summary.json").read_text())
    assert [(each["rounds"], each["test_loss"]) for each in seen] == [(5, summary["test_loss"])]

    # One that was killed after its last checkpoint is only completed.
    for name in ("model.safetensors", "summary.json"):
        (options.home / name).unlink()
    overrides = (*options.overrides, "stop.rounds=5", "model.hidden=[16]", "local.steps=5")
    setup = load_learning(
        replace(options, overrides=overrides), find_membership(replace(options, overrides=overrides))
    )
    assert setup.checkpoint is not None
    Recorder(setup, Accounting()).complete(setup.checkpoint)
    assert seen[1]["test_loss"] == pytest.approx(summary["test_loss"])


@pytest.mark.parametrize(
    "algorithm",
    ["'dfedsam'", "'gossip-learning' protocol.period_s=0.01", "'modest'"],
    ids=lambda text: text[1:5],
)
def test_on_a_slow_disk_nothing_is_told_before_its_checkpoint_is_written(
    options: NodeOptions, monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    """A disk that is always two rounds behind: status, metrics and progress may tell only what a kill leaves."""
    rounds, nodes = 30, []
    written, told, seen = [0], [], []
    save, metrics, progress = CheckpointStore.save, RunRecord.metrics, Progress.round

    def slow_save(store: CheckpointStore, checkpoint: Any) -> Path:
        deadline_s = time.monotonic() + PATIENCE_S
        while nodes[0].rounds_done < min(rounds, checkpoint.round + 2) and time.monotonic() < deadline_s:
            threading.Event().wait(0.001)
        path = save(store, checkpoint)
        written.append(checkpoint.round)
        return path

    def check(entry: Any) -> None:
        assert entry["round"] <= written[-1]
        told.append(entry["round"])

    summary, ended = Recorder.summary, []

    def ending(recorder: Recorder, state: str) -> None:
        ended.append((state, written[-1]))
        summary(recorder, state)

    monkeypatch.setattr(Recorder, "summary", ending)
    monkeypatch.setattr(CheckpointStore, "save", slow_save)
    monkeypatch.setattr(RunRecord, "metrics", lambda record, entry: (check(entry), metrics(record, entry)))
    monkeypatch.setattr(Progress, "round", lambda shown, entry: (check(entry), progress(shown, entry)))

    class Watched(Node):
        async def _live(self) -> None:
            nodes.append(self)

            async def watch() -> None:
                while True:
                    status = status_of(self)
                    seen.append((status["round"], written[-1], status["round_in_progress"]))
                    await trio.sleep(0.001)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                await super()._live()
                nursery.cancel_scope.cancel()

    settings = (f"stop.rounds={rounds}", *f"algorithm={algorithm}".split())
    assert run(options, *settings, make=Watched) == ExitCode.DONE
    assert all(round <= on_disk for round, on_disk, _ in seen)
    assert any(doing > round + 1 for round, _, doing in seen), "the disk was never behind"
    assert set(ended) == {("finished", rounds)}, "finished is who has the last round on the disk"
    assert len(written) < rounds, "the newest that was due won"
    assert sorted(told) == sorted(2 * list(dict.fromkeys(told))), "metrics and progress tell the same"
    assert rounds_told(options.home)[-1] == rounds
    assert json.loads((options.home / "summary.json").read_text())["rounds"] == rounds


def test_neighbours_hear_of_the_end_when_the_last_round_is_on_the_disk(
    options: NodeOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else they leave, and one that is killed before it has saved its last rounds has nobody to do them again with."""
    make_homes(options.home.parent / "two", ("alice", "bob"))
    options = replace(
        options, peers=options.home.parent / "two" / "peers.txt", home=options.home.parent / "two" / "alice"
    )
    rounds, nodes, written = 12, [], [0]
    told: list[tuple[str, int]] = []
    save = CheckpointStore.save

    def slow_save(store: CheckpointStore, checkpoint: Any) -> Path:
        deadline_s = time.monotonic() + PATIENCE_S
        while nodes[0].rounds_done < min(rounds, checkpoint.round + 2) and time.monotonic() < deadline_s:
            threading.Event().wait(0.001)
        path = save(store, checkpoint)
        written.append(checkpoint.round)
        return path

    class Noted(Node):
        async def _live(self) -> None:
            nodes.append(self)
            await super()._live()

    monkeypatch.setattr(CheckpointStore, "save", slow_save)
    # A neighbour that is there, and says nothing.
    monkeypatch.setattr(NeighbourTable, "is_up", lambda table, peer: True)
    monkeypatch.setattr(
        NeighbourTable, "send", lambda table, peer, message: told.append((message.kind, written[-1]))
    )
    settings = (f"stop.rounds={rounds}", "protocol.deadline_floor_s=0.001", "protocol.deadline_cap_s=0.01")
    assert run(options, "algorithm=dfedsam", *settings, make=Noted) == ExitCode.DONE
    assert [entry for entry in told if entry[0] == "finished"] == [("finished", rounds)]
    assert sum(kind == "model" for kind, _ in told) == rounds


def test_a_disk_that_is_full_for_a_while_gets_the_newest_round_when_it_has_room_again(
    options: NodeOptions, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(saving, "PAUSE_S", 0.001)
    save, tries = CheckpointStore.save, [0]
    seen: list[Any] = []

    def full(store: CheckpointStore, checkpoint: Any) -> Path:
        tries[0] += 1
        if tries[0] <= 4:
            (options.home / "checkpoints").mkdir(exist_ok=True)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, "fsync", _no_room)
                return save(store, checkpoint)
        return save(store, checkpoint)

    def no_leftovers(self: Any, round: int) -> None:
        seen.append((round, list((options.home / "checkpoints").glob(".*.tmp"))))

    monkeypatch.setattr(CheckpointStore, "save", full)
    monkeypatch.setattr(Recorder, "_saved", no_leftovers)
    with caplog.at_level(logging.INFO, logger="gossip.node"):
        assert run(options, "stop.rounds=10") == ExitCode.DONE
    assert "checkpoint of round 0 not written: No space left on device" in caplog.text
    assert "checkpoints are written again" in caplog.text
    assert seen[-1] == (10, [])


def _no_room(descriptor: int) -> None:
    raise OSError(28, "No space left on device")


def broken(*args: Any, **more: Any) -> Any:
    raise RuntimeError("broken on purpose")


@pytest.mark.parametrize(
    ("of", "name"),
    [
        (RunRecord, "metrics"),
        (RunRecord, "event"),
        (RunRecord, "summary"),
        (RunRecord, "resume_at"),
        (Progress, "round"),
        (Verdicts, "take"),
        (Verdicts, "note"),
        (Verdicts, "as_dict"),
        (Rejections, "note"),
    ],
)
def test_whatever_only_tells_may_break_and_the_node_goes_on(
    options: NodeOptions, monkeypatch: pytest.MonkeyPatch, of: type, name: str
) -> None:
    monkeypatch.setattr(of, name, broken)

    class Rejecting(Node):
        async def _live(self) -> None:
            self.recorder.rejected("bob", "nonsense")
            self.recorder.judged(1, "bob", 0.5, "")
            await super()._live()

    assert run(options, "stop.rounds=3", make=Rejecting) == ExitCode.DONE
    assert (options.home / "model.safetensors").exists()


class _Broken:
    write = flush = broken


def test_a_log_and_an_output_that_cannot_be_written_end_nothing(
    options: NodeOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger, raising = logging.getLogger("gossip"), logging.raiseExceptions
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    monkeypatch.setattr(sys, "stderr", _Broken())
    monkeypatch.setattr(sys, "stdout", _Broken())
    try:
        set_up_logging("alice", insecure=False)
        assert run(options, "stop.rounds=3") == ExitCode.DONE
    finally:
        logger.handlers[:], logger.level, logger.propagate = handlers, level, propagate
        logging.raiseExceptions = raising
    assert rounds_told(options.home)[-1] == 3


def _directory(path: Path) -> None:
    path.mkdir()
    (path / "something").touch()


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "events.jsonl", "summary.json", "status.sock", "snapshots"]
)
@pytest.mark.parametrize("obstacle", [_directory, os.mkfifo], ids=["directory", "fifo"])
def test_what_stands_in_the_way_in_a_home_ends_nothing(
    options: NodeOptions, name: str, obstacle: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    obstacle(options.home / name)
    with caplog.at_level(logging.INFO, logger="gossip.node"):
        assert run(options, "stop.rounds=3", "evaluate.snapshots=true") == ExitCode.DONE
    assert (options.home / "model.safetensors").exists()
    replaced = obstacle is os.mkfifo and name in ("summary.json", "status.sock")
    own_folder = obstacle is _directory and name == "snapshots"
    assert ("learning goes on" in caplog.text) == (not replaced and not own_folder), caplog.text


NONSENSE = (
    b"nonsense\n",
    b'{"round": "two"}\n',
    b'{"round": null}\n',
    b"[1, 2]\n",
    b"\xff\xfe\x00\n",
    b"[" * 100_000 + b"\n",
    b'{"round": ' + b"9" * 5000 + b"}\n",
)


def test_nonsense_among_the_measurements_is_dropped_with_a_sentence_on_resume(
    options: NodeOptions, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(options, "stop.rounds=3") == ExitCode.DONE
    path = options.home / "metrics.jsonl"
    path.write_bytes(b"".join(NONSENSE) + path.read_bytes() + b'{"round": 9}\n{"torn": ')
    with caplog.at_level(logging.INFO, logger="gossip.node"):
        assert run(options, "stop.rounds=5") == ExitCode.DONE
    assert rounds_told(options.home) == [1, 2, 3, 4, 5]
    assert f"{len(NONSENSE)} lines of metrics.jsonl were no measurements and are dropped" in caplog.text


def test_a_measurement_that_a_kill_took_is_a_gap_that_the_next_start_tells(options: NodeOptions) -> None:
    assert run(options, "stop.rounds=3") == ExitCode.DONE
    path = options.home / "metrics.jsonl"
    path.write_bytes(
        b"".join(path.read_bytes().splitlines(keepends=True)[:2])
    )  # the third's checkpoint is there
    assert run(options, "stop.rounds=5") == ExitCode.DONE
    assert rounds_told(options.home) == [1, 2, 4, 5]
    told = [e for e in read_lines(options.home / "events.jsonl") if e["event"] == "records_put_back"]
    assert [(each["round"], each["measured"]) for each in told] == [(3, 2)]


def test_a_home_in_which_nothing_can_be_written_is_refused_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(SettingError, match=r"cannot be used: .*checkpoints is no folder"):
        homes.check_writable(tmp_path)
    (tmp_path / "checkpoints").unlink()
    done = subprocess.run(["chattr", "+i", str(tmp_path)], capture_output=True, check=False)
    if done.returncode:
        return  # not root, or a file system without that
    try:
        with pytest.raises(SettingError, match="cannot be written: Operation not permitted"):
            homes.check_writable(tmp_path)
    finally:
        subprocess.run(["chattr", "-i", str(tmp_path)], check=True)


def test_a_full_disk_is_no_reason_to_refuse_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "open", lambda *_: _no_room(0))
    homes.check_writable(tmp_path)


# --- kills ---

SLOW = "import os, time\nfsync = os.fsync\nos.fsync = lambda fd: (time.sleep(0.03), fsync(fd))[1]\n"


def test_after_a_kill_at_any_moment_a_node_resumes_at_or_after_the_last_round_that_it_told(
    options: NodeOptions, tmp_path: Path
) -> None:
    """Real processes and SIGKILL; the disk takes its time to sync, so that rounds run ahead of it."""
    overrides = [part for text in options.overrides for part in ("--set", text)]
    argv = ["--peers", str(options.peers), "--home", str(options.home), "--json", "--rounds", "1000000"]
    orders = json.dumps({"closed": [], "prelude": SLOW})
    belongs = load_learning(options, find_membership(options)).belongs
    draws, shown, log = random.Random(7), tmp_path / "shown", tmp_path / "log"
    program = "tests.integration.bare_node"
    for _ in range(2):
        before = len(rounds_told(options.home))
        node = forked("alice", [orders, *argv, *overrides], log, stdout=shown, program=program)
        eventually(lambda: len(rounds_told(options.home)) > before + 3, "it tells of rounds")  # noqa: B023
        threading.Event().wait(draws.random() * 0.1)
        node.kill()
        assert node.wait() == -signal.SIGKILL
        told = rounds_told(options.home) + [entry["round"] for entry in read_lines(shown)]
        resumed = CheckpointStore(options.home).load_newest(belongs, protocol="rounds")
        assert resumed is not None
        assert resumed.round >= max(told)


def test_a_temporary_file_of_a_killed_process_is_gone_after_the_next_start(options: NodeOptions) -> None:
    (options.home / "checkpoints").mkdir()
    left = [options.home / "checkpoints" / ".round-00000007.safetensors.tmp", options.home / ".x.tmp"]
    for path in left:
        path.write_bytes(b"half")
    assert run(options, "stop.rounds=1") == ExitCode.DONE
    assert not any(path.exists() for path in left)
    assert atomic.clean(options.home) == 0


def test_a_damaged_newest_checkpoint_is_refused_and_never_silently_an_older_one(options: NodeOptions) -> None:
    assert run(options, "stop.rounds=3") == ExitCode.DONE
    newest = max((options.home / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="move it away to resume from the one before"):
        run(options, "stop.rounds=5")
    newest.unlink()
    assert run(options, "stop.rounds=5") == ExitCode.DONE


def test_a_disk_that_hangs_keeps_neither_the_node_from_leaving_nor_its_neighbours_from_a_goodbye(
    options: NodeOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, said = threading.Event(), []
    close = NeighbourTable.close

    async def closing(table: NeighbourTable, reason: str) -> None:
        said.append(reason)
        await close(table, reason)

    class Leaving(Node):
        async def _live(self) -> None:
            async def leave() -> None:
                while self.rounds_done < 3:
                    await trio.sleep(0.001)
                self._interrupt("SIGTERM")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(leave)
                await super()._live()

    monkeypatch.setattr(NeighbourTable, "close", closing)
    monkeypatch.setattr(CheckpointStore, "save", lambda *_: release.wait(PATIENCE_S))
    began_s = time.monotonic()
    try:
        code = run(options, "stop.rounds=3", "node.stop_timeout_s=0.2", make=Leaving)
    finally:
        release.set()
    assert (code, said) == (ExitCode.INTERRUPTED, ["finished"])
    assert time.monotonic() - began_s < PATIENCE_S, "the disk was waited for"


# --- metrics, status ---


@pytest.mark.parametrize("trouble", ["none", "publish", "status", "not finite"])
def test_metrics_are_served_while_a_node_learns_and_their_failure_ends_nothing(
    options: NodeOptions, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr("gossip.node.services.METRICS_S", 0.01)
    answers: dict[str, int] = {}

    def ask(port: int, path: str) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    class Asked(Node):
        async def _live(self) -> None:
            await super()._live()
            assert self.web is not None
            await trio.sleep(0.05)
            for path in ("/metrics", "/healthz", "/readyz"):
                answers[path] = await trio.to_thread.run_sync(ask, self.web.port, path)

    if trouble == "publish":
        monkeypatch.setattr(Web, "publish", broken)
    if trouble == "status":
        monkeypatch.setattr("gossip.node.node.status_of", broken)
    if trouble == "not finite":
        evaluation = Evaluation(score=0.1, loss=float("nan"), samples=1)
        monkeypatch.setattr(Learner, "evaluate", lambda *_: evaluation)
    options = replace(options, metrics=":0")
    assert run(options, "stop.rounds=3", make=Asked) == ExitCode.DONE
    well = trouble in ("none", "not finite")
    assert answers == {
        "/metrics": 200 if well else 404,
        **dict.fromkeys(("/healthz", "/readyz"), 200 if well else 503),
    }


def test_a_status_that_fails_costs_one_answer_and_not_the_socket(tmp_path: Path) -> None:
    contained, reports, begun = Containment(), [RuntimeError("broken"), {"name": "alice"}], []

    def report() -> Any:
        said = reports.pop(0)
        if isinstance(said, Exception):
            raise said
        return said

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            serving = partial(serve_status, tmp_path, report, contained, lambda: begun.append(True))
            nursery.start_soon(serving)
            while not begun:
                await trio.lowlevel.checkpoint()
            with pytest.raises(NetworkError):
                await trio.to_thread.run_sync(ask_status, tmp_path)
            assert await trio.to_thread.run_sync(ask_status, tmp_path) == {"name": "alice"}
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert contained.counts() == {"status not put together": 1}


def test_the_status_socket_is_the_owners_alone_and_changes_no_mode_of_what_others_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A umask is one of all threads: a folder that the saver makes meanwhile must stay one that it may enter."""
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask of all threads is changed"))
    (tmp_path / ".socket").mkdir()
    (tmp_path / ".socket" / "s").touch()  # of a process that was killed
    modes: list[int] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:

            def begun() -> None:
                modes.append(stat.S_IMODE((tmp_path / "status.sock").stat().st_mode))
                nursery.cancel_scope.cancel()

            nursery.start_soon(serve_status, tmp_path, dict, Containment(), begun)

    trio.run(main)
    assert modes == [0o600]
    assert list(tmp_path.iterdir()) == []


def test_status_is_answered_while_the_disk_and_the_learning_thread_stand_still(
    options: NodeOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither torch nor the disk is waited for: both are held until the answer is there."""
    release, answers = threading.Event(), []

    def held(*_: Any) -> Any:
        assert release.wait(PATIENCE_S)

    train = Learner.train
    monkeypatch.setattr(RunRecord, "event", held)
    monkeypatch.setattr(CheckpointStore, "save", held)
    monkeypatch.setattr(Learner, "train", lambda *given, **more: (held(), train(*given, **more))[1])

    class Asked(Node):
        async def _live(self) -> None:
            async def ask() -> None:
                while not answers:
                    with contextlib.suppress(NetworkError):
                        answers.append(await trio.to_thread.run_sync(ask_status, options.home))
                release.set()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                await super()._live()

    assert run(options, "stop.rounds=2", make=Asked) == ExitCode.DONE
    assert (answers[0]["name"], answers[0]["round"]) == ("alice", 0)
