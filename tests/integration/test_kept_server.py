"""One fork server for many runs: each finds it as if it were new. What of one that is killed: test_process_engine."""

from __future__ import annotations

import gc
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

import scenarios
from gossip.errors import SettingError
from scenarios import engines
from scenarios.clusters import local
from scenarios.processes import launcher
from scenarios.processes import server as servers
from scenarios.processes.launcher import Launcher
from scenarios.processes.server import Kept, Server
from tests.integration.homes import eventually

PROBE = """
import json, os, sys, threading

def run(argv):
    if argv == ["stay"]:
        threading.Event().wait()
    where = [os.getcwd(), os.environ.get("OF_THIS_RUN"), os.environ["OMP_NUM_THREADS"], sys.path[:2]]
    print(json.dumps({"server": os.getppid(), "where": where}))
    return 0
"""

linux = pytest.mark.skipif(
    not Path("/proc").exists(), reason="elsewhere nodes are not forked, and no server is kept"
)


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Two folders with the same program."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "probe.py").write_text(PROBE)
    return [tmp_path / "one", tmp_path / "other"]


def told(nodes: Launcher, folder: Path) -> dict[str, Any]:
    """Return what a program says that the launcher starts."""
    nodes.start("probe", [], stdout=folder / "out", stderr=folder / "err", program="probe")
    ended = []
    eventually(lambda: bool(ended.extend(nodes.wait(1)) or ended), "the program ends")
    assert [exit.code for exit in ended] == [0], (folder / "err").read_text()
    answer: dict[str, Any] = json.loads((folder / "out").read_text())
    return answer


@linux
def test_each_run_has_its_own_folder_environment_modules_and_log(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, servers, logs = os.getcwd(), set(), []
    for folder in folders:
        monkeypatch.chdir(folder)
        monkeypatch.setenv("PYTHONPATH", root)
        monkeypatch.setenv("OF_THIS_RUN", folder.name)
        with Launcher(Path("launcher.log")) as nodes:
            answer = told(nodes, folder)
        assert answer["where"] == [str(folder), folder.name, "1", [str(folder), root]]
        servers.add(answer["server"])
        logs.append((folder / "launcher.log").read_text())
        monkeypatch.delenv("OF_THIS_RUN")
    with Launcher(folders[0] / "launcher.log") as nodes:
        assert told(nodes, folder)["where"][1] is None
    assert len(servers) == 1
    assert logs[0] == logs[1]


@linux
def test_what_a_run_has_left_running_is_gone_before_the_next(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(folders[0]))
    with Launcher(folders[0] / "launcher.log") as nodes:
        server = told(nodes, folders[0])["server"]
        out = folders[0] / "out"
        nodes.start("left", ["stay"], stdout=out, stderr=out, program="probe")
        eventually(lambda: bool(nodes.wait(0.1) or nodes.running["left"]), "it is started")
        left = nodes.running["left"]
    assert not Path(f"/proc/{left}").exists()
    with Launcher(folders[1] / "launcher.log") as nodes:
        assert told(nodes, folders[1])["server"] == server
        assert nodes.running == {}


def test_a_process_of_a_sweep_keeps_one_for_its_whole_life(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept()
    monkeypatch.setattr(servers, "KEPT", kept)
    assert not kept.wanted
    local.begin()
    gc.collect()
    assert kept.wanted


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    """No server that other tests have left."""
    kept = Kept()
    for module in (servers, launcher):
        monkeypatch.setattr(module, "KEPT", kept)
    return kept


@linux
def test_a_server_that_is_begun_ahead_has_the_first_launchers_nodes_and_ends_with_the_run(
    kept: Kept, folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(folders[0]))
    with engines.ahead("processes", here=True):
        begun = kept._idle
        with Launcher(folders[0] / "launcher.log") as nodes:
            assert told(nodes, folders[0])["server"] == begun._process.pid
        assert begun._process.poll() is None
    assert begun._process.poll() is not None


@linux
def test_one_that_nobody_needs_does_not_hold_up_the_end(kept: Kept) -> None:
    with engines.ahead("processes", here=True):
        begun = kept._idle
    assert begun._process.returncode == -signal.SIGKILL
    assert kept._idle is None


@linux
def test_one_is_enough_for_whoever_asks_twice(kept: Kept) -> None:
    with engines.ahead("processes", here=True):
        begun = kept._idle
        with engines.ahead("processes", here=True):
            assert kept._idle is begun
        assert begun._process.poll() is None


@linux
def test_a_run_of_processes_begins_with_it(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[None] = []
    monkeypatch.setattr(kept, "begin", lambda: begun.append(None))
    with pytest.raises(SettingError):
        scenarios.run("nosuch", engine="processes")
    assert begun == [None]


@linux
def test_where_none_can_be_begun_the_launcher_says_why(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError

    monkeypatch.setattr(servers, "Server", fails)
    with engines.ahead("processes", here=True):
        assert kept._idle is None


@pytest.mark.parametrize(("engine", "here"), [("virtual", True), ("processes", False), ("nonsense", True)])
def test_none_is_begun_where_none_is_needed(kept: Kept, engine: str, here: bool) -> None:
    with engines.ahead(engine, here=here):
        assert kept._idle is None


@pytest.mark.parametrize("changed", ["nothing", "threads", "death"])
def test_a_server_that_could_not_be_as_new_is_not_used_again(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(tmp_path / "log", fork=False)
    try:
        server.wait_until_ready()
        if changed == "threads":
            monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
        if changed == "death":
            server.close()
        assert server.begin_again(tmp_path / "other") == (changed == "nothing")
    finally:
        if changed != "death":
            server.close()
