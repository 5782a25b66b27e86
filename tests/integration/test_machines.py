"""Real nodes on several machines: what hosts and engine tell each other, and what becomes of a lost machine.

The hosts here are threads of this process, so that the fork server of all tests starts their nodes; the program itself
and ssh: `tools/torture/clusters.py`.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import scenarios
from gossip.errors import SettingError
from scenarios.clusters.versions import versions
from scenarios.errors import RunFailed
from scenarios.machines import hosts_file
from scenarios.machines import machines as machines_module
from scenarios.machines import mirror as mirroring
from scenarios.machines import reach as reaching
from scenarios.machines.connection import Connection, Gone, Place, by_ssh
from scenarios.machines.host import Host
from scenarios.machines.hosts_file import read_hosts
from scenarios.machines.machines import LOST, Machines, shared_out
from scenarios.machines.mirror import Mirror
from scenarios.machines.outbox import Outbox
from scenarios.machines.speech import PIECE_BYTES_MAX, Garbled, Listener, message
from scenarios.processes import server
from scenarios.processes.launcher import Exit
from scenarios.scenario import load
from tests.laws import tried
from tests.tuned import TINY, small_data


@tried(1)
@given(
    st.lists(st.tuples(st.dictionaries(st.text(), st.integers()), st.binary(max_size=50))), st.integers(1, 40)
)
def test_messages_are_heard_as_they_were_said_in_whatever_pieces(said, size):
    data = b"".join(message(each, following) for each, following in said)
    listener = Listener()
    heard = [each for at in range(0, len(data), size) for each in listener.heard(data[at : at + size])]
    assert heard == [({**each, "bytes": len(following)}, following) for each, following in said]


@pytest.mark.parametrize(
    "line",
    [
        b"x\n",
        b"[]\n",
        b"{}\n",
        b'{"bytes": -1}\n',
        b'{"bytes": true}\n',
        b'{"bytes": 99999999}\n',
        b"[" * 17_000_000,
    ],
)
def test_what_is_no_message_is_garbled(line):
    with pytest.raises(Garbled):
        list(Listener().heard(line))


def test_a_home_here_is_as_the_home_there_but_for_its_key_and_its_checkpoints(tmp_path):
    there, here = tmp_path / "there", tmp_path / "here"
    (there / "snapshots").mkdir(parents=True)
    (there / "checkpoints").mkdir()
    (there / "identity.pem").write_text("secret")
    outbox, mirror = Outbox("a", there), Mirror({"a": here})

    def bring(look: Callable[[], object]) -> None:
        for said, data in look():
            assert mirror.take(said, data, of=frozenset({"a"}))

    (there / "metrics.jsonl").write_text("1\n")
    (there / "snapshots" / "round-00000001.safetensors").write_bytes(os.urandom(2 * PIECE_BYTES_MAX))
    snapshot = (there / "snapshots" / "round-00000001.safetensors").read_bytes()
    (there / "checkpoints" / "round-00000001.safetensors").write_text("all of its state")
    bring(outbox.look)
    with (there / "metrics.jsonl").open("a") as file:
        file.write("2\n")
    bring(outbox.look)
    assert (here / "metrics.jsonl").read_text() == "1\n2\n"
    assert (here / "snapshots" / "round-00000001.safetensors").read_bytes() == snapshot
    assert not list((there / "snapshots").iterdir()), "what has been brought is not kept twice"
    assert (here / "checkpoints" / "round-00000001.safetensors").read_bytes() == b""
    inode = (here / "metrics.jsonl").stat().st_ino
    (there / "anew").touch()
    (there / "anew").replace(there / "metrics.jsonl")
    bring(outbox.look)
    (there / "node.log").write_text("one")
    bring(outbox.look)
    outbox.begins_again()
    (there / "node.log").write_text("one life more")
    (there / "anew").write_text("1\n3\n")
    (there / "anew").replace(there / "metrics.jsonl")
    (there / "summary.json").write_text("{}")
    bring(outbox.last_look)
    assert (here / "metrics.jsonl").read_text() == "1\n3\n"
    assert (here / "metrics.jsonl").stat().st_ino != inode, "as a file that was written anew"
    assert (here / "node.log").read_text() == "one life more"
    assert (here / "summary.json").read_text() == "{}"
    mirror.tidy()
    assert "secret" not in {
        path.read_text(errors="replace") for path in tmp_path.glob("here/*") if path.is_file()
    }
    assert not (here / "checkpoints").exists()


@pytest.mark.parametrize(
    "said",
    [
        {"whole": "b", "file": "x", "first": True, "last": True},
        {"whole": "a", "file": "../x", "first": True, "last": True},
        {"whole": "a", "file": "/tmp/x", "first": True, "last": True},
        {"whole": "a", "file": "identity.pem", "first": True, "last": True},
        {"whole": "a", "file": "checkpoints/x", "first": True, "last": True},
        {"grown": "a", "file": "summary.json", "anew": True},
        {"grown": "a", "file": "../node.log", "anew": True},
        {"saved": "a", "files": ["../x"]},
        {"saved": "a", "files": "x"},
        {"saved": "a", "files": ["x/y"]},
        {"whole": "a", "file": "x\0y", "first": True, "last": True},
        {"whole": "a", "file": "x" * 201, "first": True, "last": True},
        {"whole": "a", "file": "", "first": True, "last": True},
    ],
)
def test_a_host_writes_nothing_but_homes_of_its_peers(tmp_path, said):
    mirror = Mirror({"a": tmp_path / "a", "b": tmp_path / "b"})
    with pytest.raises(Garbled):
        mirror.take(said, b"x", of=frozenset({"a"}))
    assert {path.name for path in tmp_path.rglob("*")} == {"a", "b"}


def test_a_file_without_an_end_does_not_fill_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(mirroring, "FILE_BYTES_MAX", 10)
    mirror = Mirror({"a": tmp_path / "a"})
    said = {"whole": "a", "file": "model.safetensors", "last": False}
    mirror.take({**said, "first": True}, b"x" * 6, of=frozenset({"a"}))
    with pytest.raises(Garbled, match="a file of more than"):
        mirror.take({**said, "first": False}, b"x" * 6, of=frozenset({"a"}))
    assert not (tmp_path / "a" / "model.safetensors").exists()


@tried(1)
@given(st.integers(1, 40), st.lists(st.integers(1, 64), min_size=1, max_size=6))
def test_each_machine_has_peers_as_it_has_cores(peers, cores):
    names = [str(number) for number in range(peers)]
    shares = shared_out(names, cores)
    assert sorted(name for share in shares for name in share) == sorted(names)
    for share, has in zip(shares, cores, strict=True):
        assert abs(len(share) - peers * has / sum(cores)) < len(cores)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "names no machine"),
        ("a\nb c d e", "line 2: must be HOST or USER@HOST"),
        ("-oProxyCommand=x", "line 1: must be HOST"),
        ("a 1.2.3", "line 1: .* is not an IPv4 address"),
        ("a\na", "names a machine twice"),
        ("a\nb\nc\nd", "4 machines, more than 3"),
    ],
)
def test_wrong_hosts_files_are_one_sentence(tmp_path, text, sentence, monkeypatch):
    monkeypatch.setattr(hosts_file, "HOSTS_MAX", 3)
    (tmp_path / "hosts.txt").write_text(text)
    with pytest.raises(SettingError, match=sentence):
        read_hosts(tmp_path / "hosts.txt")


def test_a_hosts_file_says_where_peers_are_found(tmp_path):
    (tmp_path / "hosts.txt").write_text("# ours\nme@one\ntwo 10.0.0.2\nthree 10.0.0.3 /opt/python\n")
    lines = read_hosts(tmp_path / "hosts.txt")
    assert [(line.target, line.place.address, line.python) for line in lines] == [
        ("me@one", "one", "python3"),
        ("two", "10.0.0.2", "python3"),
        ("three", "10.0.0.3", "/opt/python"),
    ]


def test_ssh_asks_no_questions_but_whether_the_machine_is_there(tmp_path, monkeypatch):
    (tmp_path / "ssh").write_text('#!/bin/sh\nfor each; do echo "$each"; done\n')
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    pipes, heard = by_ssh(Place("a", "a"), "me@a", "/opt/my python"), b""
    while heard.count(b"\n") < 10:
        heard += pipes.read()
    pipes.close()
    *options, dashes, target, command = heard.decode().splitlines()
    assert {"BatchMode=yes", "ServerAliveInterval=15", "ServerAliveCountMax=3", "-T"} <= set(options)
    assert (dashes, target) == ("--", "me@a")
    assert command == "exec '/opt/my python' -m scenarios.machines.host"


class Told(Connection):
    """Says what it was given, and is gone then."""

    def __init__(self, *said: bytes) -> None:
        super().__init__(Place("told", "127.0.0.1"))
        self.said = list(said)

    def _send(self) -> None:
        pass

    def _receive(self) -> bytes:
        if not self.said:
            raise Gone("no route to it")
        return self.said.pop(0)

    def close(self) -> None:
        pass


PATIENT_S = 600.0
HELLO = {"hello": "h", "cores": 1, "folder": "/there"}


def test_a_host_that_is_another_or_none_is_refused_with_a_sentence():
    with pytest.raises(
        SettingError, match=r"the machine told cannot have peers: it has .*torch .* instead of 1\.0"
    ):
        Machines([Told(message({**HELLO, "versions": {**versions(), "torch": "1.0"}}))])
    with pytest.raises(SettingError, match="the machine told cannot have peers: no route to it"):
        Machines([Told()])
    with pytest.raises(SettingError, match="it says what no host says"):
        Machines([Told(b"Welcome to told!\n")])


@pytest.mark.parametrize(
    ("lines", "error", "sentence"),
    [
        (["a h:1"], SettingError, "it says what no host says: peers' lines of another shape"),
        (["a h:1 key\nb h:1 key"], SettingError, "peers' lines of another shape"),
        (["mallory h:1 key"], RunFailed, "identities of other peers than they were asked for"),
    ],
)
def test_a_host_names_no_peers_but_its_own(tmp_path, lines, error, sentence):
    hello = message({**HELLO, "versions": dict(versions())})
    machines = Machines([Told(hello, message({"prepared": lines, "clock": 0.0}), b"")])
    with pytest.raises(error, match=sentence):
        machines.prepare(load("quickstart", overrides=["scenario.peers=2"]), tmp_path)
    assert not (tmp_path / "peers.txt").exists()


def test_a_clock_that_is_off_is_told_of(tmp_path, caplog):
    hello = message({**HELLO, "versions": dict(versions())})
    scenario = load("quickstart", overrides=["scenario.peers=2"])
    lines = [f"{name} h:1 key" for name in scenario.peer_names]
    Machines([Told(hello, message({"prepared": lines, "clock": 0.0}), b"")]).prepare(scenario, tmp_path)
    assert "the clock of told is" in caplog.text


def test_a_host_that_says_nothing_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(machines_module, "START_TIMEOUT_S", 0.0)
    with pytest.raises(SettingError, match="the machine told has not answered in 0 s"):
        Machines([Told(*[b""] * 9)])


class Threaded(Connection):
    """A host in a thread; `lose` is what the end of its machine is."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(Place(name, "127.0.0.1"))
        given, self._input = os.pipe()
        self._output, output = os.pipe()
        os.set_blocking(self._output, False)
        folder.mkdir()
        self.lost = False
        self._thread = threading.Thread(target=self._serve, args=(Host(folder, output), given, output))
        self._thread.start()

    def _serve(self, host: Host, given: int, output: int) -> None:
        host.serve(given)
        os.close(given)
        os.close(output)

    def _send(self) -> None:
        if self.lost:
            raise Gone("it burns")
        while self._unsent:
            del self._unsent[: os.write(self._input, self._unsent)]

    def _receive(self) -> bytes:
        if self.lost:
            raise Gone("it burns")
        try:
            return os.read(self._output, 1 << 20)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        if self._thread.is_alive():
            os.close(self._input)
            while self._thread.is_alive():
                self._thread.join(0.02)
                try:
                    while os.read(self._output, 1 << 20):
                        pass
                except BlockingIOError:
                    continue
            os.close(self._output)


SLOW = """
import time
from torch import nn

class Slow(nn.Linear):
    def forward(self, x):
        time.sleep(0.02)  # a round lasts longer than the engine takes to look, and costs nothing
        return super().forward(x)

def make(input_shape, classes):
    return nn.Sequential(nn.Flatten(), Slow(64, classes))
"""


def test_a_lost_machine_is_a_fault_and_keys_stay_where_they_were_made(tmp_path, monkeypatch):
    scenario = tmp_path / "tiny.toml"
    scenario.write_text(TINY.replace("[data]", f'[data]\nsource = "{small_data(tmp_path)}"'))
    (tmp_path / "slow.py").write_text(SLOW)
    monkeypatch.setattr(server, "START_TIMEOUT_S", PATIENT_S)  # two servers import torch at the same time
    hosts = [Threaded(name, tmp_path / name) for name in ("one", "two")]

    def on_threads(cluster: str, hosts_file: Path | None) -> Callable[[], Machines]:
        def begin() -> Machines:
            return Machines(hosts)

        return begin

    class Watching(scenarios.progress.Quiet):
        def update(self, state: scenarios.progress.State) -> None:
            if state.rounds_mean > 0:
                hosts[1].lost = True

    monkeypatch.setattr(reaching, "reach", on_threads)
    result = scenarios.run(
        scenario,
        engine="processes",
        cluster="ray://elsewhere:1",
        out=tmp_path / "run",
        overrides={
            "stop.rounds": 12,
            "scenario.algorithm": "d-psgd",
            "model.name": f"python:{tmp_path / 'slow.py'}:make",
            "node.linger_s": 1.0,
            "node.start_timeout_s": PATIENT_S,
            "processes.stall_timeout_s": PATIENT_S,
        },
        progress=Watching(),
        report=False,
    )
    events = [json.loads(line) for line in (result.folder / "events.jsonl").read_text().splitlines()]
    where = json.loads((result.folder / "machines.json").read_text())
    states = {peer["peer"]: peer["state"] for peer in result.peers}
    assert {states[name] for name, machine in where.items() if machine == "two"} == {"died"}
    assert {states[name] for name, machine in where.items() if machine == "one"} == {"finished"}
    [death] = {event["words"] for event in events if event["event"] == "died"}
    assert death == "its machine two is lost: it burns"
    assert result.metrics
    assert result.summary["faults"]["died"] == sum(machine == "two" for machine in where.values())
    assert not list(result.folder.rglob("identity.pem"))


def test_a_node_on_a_lost_machine_ends_at_once():
    machines = Machines([Told(message({**HELLO, "versions": dict(versions())}), b"")])
    machines._of["a"] = machines._machines[0]
    machines._machines[0].peers = frozenset({"a"})
    machines.start("a", [], stdout=Path(), stderr=Path())
    ended = Exit("a", LOST, words="its machine told is lost: no route to it")
    assert machines.wait(1.0) == [ended]
    machines.start("a", [], stdout=Path(), stderr=Path())
    assert machines.wait(1.0) == [ended]
    assert not machines.running
