"""Scenarios run by real processes, and what happens when those are interrupted, killed or hang."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import scenarios
from gossip.errors import DataError, SettingError
from scenarios.cli import call
from scenarios.errors import RunFailed
from scenarios.processes import homes
from scenarios.processes.launcher import Launcher
from scenarios.processes.server import last_line
from scenarios.processes.watch import GrowingLines, Watch
from scenarios.progress import State, told
from scenarios.reports.terminal import print_result
from scenarios.scenario import ScenarioSettings
from tests.integration.homes import Forked, eventually, forked

SCENARIO = """
[scenario]
description = "three peers, blobs, a network of one's own"
peers = 3
algorithm = "dfedavg"
[data]
source = "blobs.npz"
partition = { kind = "iid" }
[model]
name = "python:net.py:small"
[local]
lr = 0.2
epochs = 2
[topology]
kind = "ring"
[stop]
rounds = 4
"""

NET = """
from torch import nn

def small(input_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(input_shape[0], 8), nn.ReLU(), nn.Linear(8, classes))
"""


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    """A scenario file beside an .npz file and a network, as a user would make them."""
    rng = np.random.default_rng(0)
    centres = rng.normal(scale=4, size=(3, 5))
    y = rng.integers(0, 3, size=240)
    x = (centres[y] + rng.normal(size=(240, 5))).astype(np.float32)
    np.savez(tmp_path / "blobs.npz", x_train=x[:180], y_train=y[:180], x_test=x[180:], y_test=y[180:])
    (tmp_path / "net.py").write_text(NET)
    path = tmp_path / "blobs.toml"
    path.write_text(SCENARIO)
    return path


class Recorded:
    """Remembers what an engine tells."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def begin(self, scenario: ScenarioSettings) -> None:
        self.told.append("begin")

    def update(self, state: State) -> None:
        self.told.append(state)

    def step(self, what: str) -> None:
        pass

    def end(self) -> None:
        self.told.append("end")


def test_three_peers_learn_a_users_data_with_a_users_network(blobs: Path, tmp_path: Path) -> None:
    progress = Recorded()
    result = scenarios.run(
        blobs, engine="processes", out=tmp_path / "run", overrides={"stop.rounds": 5}, progress=progress
    )
    summary = result.summary
    assert summary["accuracy"]["min"] > 0.9
    assert (summary["scenario"], summary["engine"], summary["peers"], summary["rounds"]) == (
        "blobs",
        "processes",
        3,
        5,
    )
    assert summary["faults"]["rejected_messages"] == {}
    # 3 peers send their 75 parameters of 4 bytes to 2 neighbours in each of 5 rounds.
    assert summary["bytes"]["payload"] == 3 * 2 * 5 * 4 * (5 * 8 + 8 + 8 * 3 + 3)
    assert summary["bytes"]["total"] == summary["bytes"]["protocol"] + summary["bytes"]["transport"]
    assert summary["messages"]["by_type"]["model"] == 3 * 2 * 5
    # On the complete graph of three one gossip step is exact consensus, so the mean is every model.
    assert summary["consensus_distance"] == pytest.approx(0, abs=1e-5)
    assert summary["accuracy_of_mean"] == pytest.approx(summary["accuracy"]["mean"])
    assert [point["round"] for point in summary["curve"]] == [1, 2, 3, 4, 5]
    assert all(point["consensus_distance"] is not None for point in summary["curve"])
    assert len(summary["model_digest"]) == 64
    assert len(result.metrics) == 15
    assert json.loads((result.folder / "summary.json").read_text()) == summary
    assert (result.folder / "report.html").exists()
    assert not list((result.folder / "peers").rglob("snapshots"))
    assert progress.told[0] == "begin"
    assert progress.told[-1] == "end"
    assert progress.told[-2].rounds_min == 5
    with pytest.raises(SettingError, match="holds a finished run"):
        scenarios.run(blobs, engine="processes", out=tmp_path / "run")


def test_unusable_data_is_told_before_anything_starts(blobs: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.npz"):
        scenarios.run(
            blobs,
            engine="processes",
            out=tmp_path / "run",
            overrides=[f"data.source={tmp_path / 'absent.npz'}"],
        )
    assert not (tmp_path / "run" / "peers").exists()


@pytest.mark.parametrize("engine", ["virtual", "processes"])
def test_more_parts_than_a_model_has_numbers_are_told_before_anything_starts(
    tmp_path: Path, engine: str
) -> None:
    with pytest.raises(SettingError, match=r"parts = 4096: 310 numbers .* at most 310"):
        scenarios.run(
            "late-joiner",
            engine=engine,
            out=tmp_path / "run",
            overrides={"protocol.parts": 4096, "model.hidden": (4,), "stop.rounds": 3},
        )
    assert not (tmp_path / "run" / "peers").exists()


def test_an_engine_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(SettingError, match="did you mean 'processes'"):
        scenarios.run("quickstart", engine="proceses")


def started(blobs: Path, out: Path) -> Forked:
    """Start an endless run in a process of its own, and return once every peer is learning."""
    run = ["run", "--engine=processes", str(blobs), "--out", str(out), "--set", "stop.rounds=1000000"]
    engine = forked("engine", run, out.parent / "engine.log", program="tests.integration.forked_engine")
    eventually(
        lambda: engine.poll() is not None or len(list(out.glob("peers/*/metrics.jsonl"))) == 3, "all learn"
    )
    assert engine.poll() is None, (out.parent / "engine.log").read_text()
    return engine


def children(pid: int) -> list[int]:
    return [int(line) for line in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid: int) -> bool:
    """Return whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_until_gone(pids: list[int]) -> None:
    deadline_s = time.monotonic() + 20
    while not all(gone(pid) for pid in pids):
        assert time.monotonic() < deadline_s, f"still running: {[pid for pid in pids if not gone(pid)]}"
        time.sleep(0.05)


linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@linux
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_no_process_outlives_the_engine_however_it_ends(
    blobs: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    engine = started(blobs, tmp_path / "run")
    (server,) = children(engine.pid)
    nodes = children(server)
    assert len(nodes) == 3
    engine.send_signal(number)
    assert engine.wait() == code
    said = (tmp_path / "engine.log").read_text()
    if code == 130:
        assert said.splitlines()[-1] == (
            "gossip-scenario: interrupted; all processes are stopped, the run is unfinished"
        )
        # They were asked before they were killed, and had the time to save what they had.
        told = [json.loads(path.read_text()) for path in (tmp_path / "run").glob("peers/*/summary.json")]
        assert [peer["state"] for peer in told] == ["interrupted"] * 3
    wait_until_gone([server, *nodes])
    assert not (tmp_path / "run" / "summary.json").exists()


def find(home: Path) -> tuple[int, int]:
    """Return the process of the node that has a home, and that of its server."""
    # Forked nodes have the command line of their server: the lock of its home tells which is which.
    for server in children(os.getpid()):
        for pid in children(server) if b"fork_server" in _command(server) else ():
            for file in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if os.readlink(file) == str(home / "lock"):
                        return pid, server
    raise AssertionError(f"no node has {home}")


@linux
@pytest.mark.parametrize("victim", ["node", "server"])
def test_a_killed_node_ends_a_strict_run_and_a_killed_server_any_with_a_sentence(
    blobs: Path, tmp_path: Path, victim: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    killed: list[int] = []

    def kill() -> None:
        eventually(lambda: len(list(out.glob("peers/*/metrics.jsonl"))) == 3, "the peers learn")
        node, server = find(out / "peers/peer-01")
        killed.extend([node] if victim == "node" else [server, *children(server)])
        os.kill(killed[0], signal.SIGKILL)

    run = [
        "run",
        "--engine=processes",
        str(blobs),
        "--out",
        str(out),
        "--set",
        "processes.stall_timeout_s=60",
    ]
    rounds = ["--set", "stop.rounds=1000000", "--set", f"scenario.strict={str(victim == 'node').lower()}"]
    killer = threading.Thread(target=kill)
    before = signal.getsignal(signal.SIGTERM)
    # Whoever has the server that tests share keeps it; the one that is killed is of this run only.
    with Launcher(tmp_path / "other.log") if victim == "server" else contextlib.nullcontext():
        killer.start()
        assert call([*run, *rounds]) == 1
    killer.join()
    signal.signal(signal.SIGTERM, before)
    said = capsys.readouterr().err.splitlines()[-1]
    if victim == "node":
        assert said.startswith("gossip-scenario: peer-01 ended by signal 9: ")
        assert said.endswith(f"see {out / 'peers/peer-01/node.log'}")
    else:
        assert said.startswith("gossip-scenario: the process that starts nodes has ended")
    wait_until_gone(killed)


class Killing(Recorded):
    """Kills a peer once the run is under way: what no fault of the scenario has asked for."""

    def __init__(self, run: Path) -> None:
        super().__init__()
        self._run = run
        self.killed = False

    def update(self, state: State) -> None:
        super().update(state)
        if self.killed or state.rounds_min < 1:
            return
        os.kill(find(self._run / "peers/peer-01")[0], signal.SIGKILL)
        self.killed = True


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@linux
def test_an_unplanned_death_is_recorded_shown_and_survived(blobs: Path, tmp_path: Path) -> None:
    progress, rounds = Killing(tmp_path / "run"), 10
    # Rounds that take longer than the engine takes to look: the peer is killed in the middle of the run.
    overrides = {"stop.rounds": rounds, "local.epochs": 60, "node.linger_s": 1.0}
    result = scenarios.run(
        blobs, engine="processes", out=tmp_path / "run", overrides=overrides, progress=progress
    )
    assert progress.killed
    assert result.summary["faults"]["died"] == 1
    states = {peer["peer"]: (peer["state"], peer["rounds"]) for peer in result.peers}
    assert states["peer-00"] == states["peer-02"] == ("finished", rounds)
    assert states["peer-01"][0] == "died"
    assert 1 <= states["peer-01"][1] < rounds
    dead = result.peers[1]
    assert dead["last_words"].startswith("ended by signal 9: ")
    events = [json.loads(line) for line in (result.folder / "events.jsonl").read_text().splitlines()]
    assert [(e["peer"], e["code"]) for e in events if e["event"] == "died"] == [("peer-01", -9)]
    assert progress.told[-2].died == 1
    assert "1 died" in told(progress.told[-2])
    assert result.summary["accuracy"]["min"] is not None
    assert dead["accuracy"] is None, "the dead have no model at the end"
    page = (result.folder / "report.html").read_text()
    assert '"died: ended by signal 9' in page
    shown = io.StringIO()
    print_result(Console(file=shown, width=100), result.summary, result.peers, report="r")
    assert "peer-01 (died)" in shown.getvalue()
    assert "peer-01 ended by signal 9" in shown.getvalue()


def test_a_run_that_stands_still_is_stopped_with_a_sentence(blobs: Path, tmp_path: Path) -> None:
    # Neighbours that are waited for far longer than the engine has patience.
    overrides = {
        "scenario.peers": 2,
        "topology.kind": "full",
        "data.source": f"python:{tmp_path / 'slow.py'}:data",
        "processes.stall_timeout_s": 0.2,
        "processes.stop_timeout_s": 0.2,
    }
    (tmp_path / "slow.py").write_text(
        "import os, threading\n"
        "import numpy as np\n"
        "def data():\n"
        f"    if os.getpid() != {os.getpid()}:  # in a node, not in the engine\n"
        "        threading.Event().wait()\n"
        "    return {k: np.arange(8.0).reshape(4, 2) if k[0] == 'x' else np.array([0, 1, 0, 1])\n"
        "            for k in ('x_train', 'y_train', 'x_test', 'y_test')}\n"
    )
    with pytest.raises(
        RunFailed, match=r"no peer has got on for 0\.2 s; the furthest behind is peer-00 in round 0"
    ):
        scenarios.run(blobs, engine="processes", out=tmp_path / "run", overrides=overrides)


@pytest.mark.parametrize("who", ["one, strict", "one", "all"])
def test_a_peer_that_cannot_start_is_named_with_its_last_words(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    right = homes.arguments
    monkeypatch.setattr(
        homes,
        "arguments",
        lambda folder, home, fresh=True, own=(): [
            *right(folder, home),
            *(["--rounds", "x"] if who == "all" or home.name == "peer-01" else []),
        ],
    )
    overrides = {"scenario.strict": who == "one, strict", "node.start_timeout_s": 2.0, "node.linger_s": 1.0}

    def run() -> scenarios.Result:
        return scenarios.run(
            blobs, engine="processes", out=tmp_path / "run", overrides=overrides, report=False
        )

    if who == "one":
        result = run()
        assert [peer["state"] for peer in result.peers] == ["finished", "died", "finished"]
        assert result.peers[1]["last_words"].startswith("ended with exit code 2: ")
        assert len(result.summary["curve"]) == 4
        assert all(point["consensus_distance"] is not None for point in result.summary["curve"])
        return
    sentence = {
        "all": r"^no honest peer is left: peer-0\d ended with exit code 2: .*; see .* \(and 2 more have died\)$",
        "one, strict": r"^peer-01 ended with exit code 2: .*; see .*peer-01/node\.log$",
    }
    with pytest.raises(RunFailed, match=sentence[who]):
        run()


def test_a_port_that_is_lost_to_a_faster_program_is_replaced(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    right = homes.free_ports
    with socket.socket() as rival:
        rival.bind((homes.HOST, 0))
        rival.listen()
        asked: list[int] = []

        def unlucky(count: int) -> list[int]:
            asked.append(count)
            ports = right(count)
            return [rival.getsockname()[1], *ports[1:]] if len(asked) == 1 else ports

        monkeypatch.setattr(homes, "free_ports", unlucky)
        result = scenarios.run(blobs, engine="processes", out=tmp_path / "run", report=False)
    assert asked == [3, 3]
    assert result.summary["rounds"] == 4


def test_nodes_can_be_started_without_forking(tmp_path: Path) -> None:
    """As on systems where a fork after importing torch is unsafe."""
    with Launcher(tmp_path / "launcher.log", fork=False) as launcher:
        launcher.start("one", ["--help"], stdout=tmp_path / "out", stderr=tmp_path / "err")
        exits = []
        deadline_s = time.monotonic() + 30
        while not exits and time.monotonic() < deadline_s:
            exits = launcher.wait(1)
    assert [(exit.name, exit.code) for exit in exits] == [("one", 0)]
    assert "gossip-node" in (tmp_path / "out").read_text()


def test_growing_files_are_read_line_by_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = GrowingLines(path)
    assert lines.new() == []
    path.write_bytes(b'{"a": 1}\n{"a"')
    assert lines.new() == [{"a": 1}]
    with path.open("ab") as file:
        file.write(b': 2}\nnot json\n[3]\n{"a": 4}\n')
    assert lines.new() == [{"a": 2}, {"a": 4}]
    assert lines.new() == []


def test_a_model_that_diverges_gives_nulls_not_broken_json(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"round": 1, "time": 12.5, "accuracy": 0.1, "test_loss": NaN}\n')
    watch = Watch({"peer-00": tmp_path}, began=10.0)
    assert watch.look()
    assert watch.metrics == [{"peer": "peer-00", "round": 1, "time": 2.5, "accuracy": 0.1, "test_loss": None}]
    assert not watch.look()
    (tmp_path / "checkpoints").mkdir()
    assert watch.look()


@pytest.mark.parametrize(
    ("there", "begun"), [({"one": 0}, False), ({"one": 0, "other": 0}, True), ({"one": 1}, True)]
)
def test_a_run_has_begun_when_all_are_there_or_one_has_done_a_round_without_the_others(
    tmp_path: Path, there: dict[str, int], begun: bool
) -> None:
    """Faults count from there: a peer that has only just been started would be none that leaves a run."""
    watch = Watch({"one": tmp_path / "one", "other": tmp_path / "other"}, began=0.0)
    assert not watch.look()
    for name, number in there.items():
        checkpoints = tmp_path / name / "checkpoints"
        checkpoints.mkdir(parents=True)
        (checkpoints / f"round-{number:08d}.safetensors").touch()
    assert watch.look()
    assert watch.begun({"one", "other"}) == begun


def test_the_last_line_of_a_log_is_one_that_says_something(tmp_path: Path) -> None:
    log = tmp_path / "node.log"
    assert last_line(log) == "it says nothing"
    log.write_text("  | ValueError: really\n  +------------------------------------\n\n")
    assert last_line(log) == "ValueError: really"
