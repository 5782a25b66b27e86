"""Whatever a user gets wrong is answered by one sentence and the documented exit code, and nothing is lost."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from gossip import cli
from gossip.errors import SettingError
from gossip.net.identity import Identity
from gossip.node.home import HomeLock
from gossip.storage.checkpoints import Belongs, Checkpoint, CheckpointStore
from tests.integration.homes import make_homes


@pytest.fixture
def peers(tmp_path):
    return make_homes(tmp_path, ("alice", "bob"))


@pytest.fixture(autouse=True)
def _quiet_logs_afterwards():
    yield
    logging.getLogger("gossip").handlers.clear()


def run(tmp_path, capsys, *arguments, command=(), peers="peers.txt"):
    argv = [*command, "--peers", str(tmp_path / peers), "--home", str(tmp_path / "alice"), *arguments]
    code = cli.run(argv)
    complaint = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gossip-node: ")]
    assert len(complaint) == (code not in (0, 130)), "exactly one sentence"
    return code, (complaint or [""])[0]


def dataset(path, **changes):
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.normal(size=(40, 6)).astype(np.float32),
        "y_train": rng.integers(0, 3, 40),
        "x_test": rng.normal(size=(10, 6)).astype(np.float32),
        "y_test": rng.integers(0, 3, 10),
    } | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def test_a_missing_peers_option_is_said(capsys):
    assert cli.run(["--rounds", "3"]) == 2
    assert "--peers FILE is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--ronds", "3"], "No such option: --ronds"),
        (["stats"], "No such command 'stats'"),
        (["init"], "Missing option '--name'"),
        (["--rounds", "three"], "Invalid value for '--rounds'"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(capsys, argv, sentence):
    assert cli.run(argv) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("gossip-node: ")
    assert sentence in said.err
    assert said.err.count("\n") == 1


def test_two_settings_that_replace_each_other_are_not_given_together(tmp_path, capsys, peers):
    both = ("--set", "local.epochs=1", "--set", "local.steps=3")
    assert run(tmp_path, capsys, *both) == (
        2,
        "gossip-node: --set local.steps=3: excludes --set local.epochs=1; give one of them",
    )


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("carol", "'carol' stands alone"),
        ("carol 127.0.0.1", "is not an address"),
        ("carol 127.0.0.1:99999", "is not a port"),
        ("carol 127.0.0.1:7 AAAA", "carol"),
        ("carol 127.0.0.1:7", "has no certificate"),
        ("alice 127.0.0.1:7 x y", "unknown field"),
    ],
)
def test_a_malformed_peers_file_is_named_with_its_line(tmp_path, capsys, peers, line, sentence):
    peers.write_text(peers.read_text() + line + "\n")
    code, complaint = run(tmp_path, capsys)
    assert (code, f"{peers}:4: " in complaint, sentence in complaint) == (2, True, True), complaint


def test_a_certificate_that_is_not_in_the_file(tmp_path, capsys, peers):
    Identity.create(tmp_path / "stranger", name="alice", advertise="127.0.0.1:1")
    code = cli.run(["--peers", str(peers), "--home", str(tmp_path / "stranger")])
    assert code == 2
    assert "no line has the certificate of this node's identity" in capsys.readouterr().err


def test_no_identity_says_how_to_make_one(tmp_path, capsys, peers):
    (tmp_path / "alice" / "identity.pem").unlink()
    code, complaint = run(tmp_path, capsys)
    assert code == 2
    assert "gossip-node init" in complaint


@pytest.mark.parametrize(
    "wrong",
    [
        [],  # there is no identity
        ["--insecure", "--name", "carol"],
        ["--insecure", "--name", "alice", "--data", "nowhere.csv"],
        ["--insecure", "--name", "alice", "--set", "local.lr=-1"],
    ],
    ids=str,
)
def test_a_refused_start_leaves_nothing_of_a_home_that_was_not_there(tmp_path, capsys, peers, wrong):
    before = sorted(tmp_path.rglob("*"))
    for home in ("nohome", "no/such/home"):
        code = cli.run(["--peers", str(peers), "--home", str(tmp_path / home), *wrong])
        assert (code in (2, 4), capsys.readouterr().err.count("\n")) == (True, 1)
        assert sorted(tmp_path.rglob("*")) == before


def test_a_home_that_a_refused_start_takes_away_meanwhile_is_locked_as_it_is_then(tmp_path, monkeypatch):
    home, flock, gone = tmp_path / "new", fcntl.flock, []

    def late(descriptor, how):
        if not gone:
            gone.append(home)
            (home / "lock").unlink()
            home.rmdir()
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    held = HomeLock(home)
    assert gone
    with pytest.raises(SettingError, match="another gossip-node is running there"):
        HomeLock(home)
    held.release()
    assert not home.exists()


def test_a_refused_start_takes_nothing_from_a_home_that_was_there(tmp_path, capsys, peers):
    (tmp_path / "alice" / "notes.txt").write_text("mine")
    (tmp_path / "alice" / "checkpoints").mkdir()
    before = {*(tmp_path / "alice").iterdir()}
    assert run(tmp_path, capsys, "--set", "local.lr=-1")[0] == 2
    assert before <= {*(tmp_path / "alice").iterdir()}


def test_an_unknown_key_of_a_task_is_named_with_its_line(tmp_path, capsys, peers):
    task = tmp_path / "task.toml"
    task.write_text("[local]\nlr = 0.1\nepoch = 3\n")
    code, complaint = run(tmp_path, capsys, "--task", str(task))
    assert code == 2
    assert complaint == f"gossip-node: {task}:3: [local] unknown key 'epoch'; did you mean 'epochs'?"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (None, "there is no"),
        ({"y_test": None}, "y_test"),
        ({"y_train": np.zeros(39, dtype=int)}, "y_train"),
        ({"x_test": np.zeros((10, 7), dtype=np.float32)}, "x_test"),
        ({"x_train": np.full((40, 6), np.nan, dtype=np.float32)}, "x_train"),
        ({"y_train": np.array([object()] * 40)}, "y_train"),
    ],
)
def test_unusable_data_is_exit_4_and_names_file_and_key(tmp_path, capsys, peers, changes, sentence):
    path = tmp_path / "data.npz"
    if changes is not None:
        dataset(path, **changes)
    code, complaint = run(tmp_path, capsys, "--data", str(path))
    assert (code, str(path) in complaint, sentence in complaint) == (4, True, True), complaint


@pytest.mark.parametrize("name", ["data.csv", "data.npz", "images"])
@pytest.mark.parametrize("command", [(), ("check",)])
def test_data_that_may_not_be_read_are_exit_4_as_those_that_are_not_there(
    tmp_path, capsys, monkeypatch, peers, name, command
):
    path, stat, opened, may = tmp_path / name, Path.stat, Path.open, os.access

    # Root may read anything, so the system's refusal is made up.
    def refused(self, *given, **more):
        if self == path or (path in self.parents and name == "images"):
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return opened(self, *given, **more)

    def looked(self, *given, **more):
        return refused(self) if path in self.parents else stat(self, *given, **more)

    monkeypatch.setattr(Path, "open", refused)
    monkeypatch.setattr(Path, "stat", looked)
    monkeypatch.setattr(
        os, "access", lambda at, *given, **more: str(at) != str(path) and may(at, *given, **more)
    )
    path.mkdir() if name == "images" else path.touch()
    code, complaint = run(tmp_path, capsys, "--data", str(path), command=command)
    assert (code, str(path) in complaint, "Permission denied" in complaint) == (4, True, True), complaint


def test_a_model_that_does_not_fit_the_data(tmp_path, capsys, peers):
    code, complaint = run(
        tmp_path, capsys, "--data", str(dataset(tmp_path / "d.npz")), "--set", "model.name=cnn"
    )
    assert code == 2
    assert "cnn" in complaint


@pytest.mark.parametrize("command", [(), ("check",)])
def test_more_parts_than_a_model_has_numbers(tmp_path, capsys, peers, command):
    wanted = ("--set", "model.hidden=[4]", "--set", "protocol.kind=push", "--set", "protocol.parts=4096")
    code, complaint = run(tmp_path, capsys, *wanted, command=command)
    assert code == 2
    assert "parts = 4096" in complaint
    assert "at most 310" in complaint


def test_a_port_in_use(tmp_path, capsys, peers):
    port = int(peers.read_text().splitlines()[1].split()[1].rpartition(":")[2])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        code, complaint = run(tmp_path, capsys)
    assert code == 2
    assert str(port) in complaint
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert run(tmp_path, capsys, command=("check",))[0] == 2


def test_nobody_there_is_exit_3_and_says_who_is_missing(tmp_path, capsys, peers):
    code, complaint = run(tmp_path, capsys, "--set", "node.start_timeout_s=0.3")
    assert code == 3
    assert "0 of 1 neighbours reachable" in complaint
    assert "bob" in complaint


def test_a_checkpoint_of_another_task_is_exit_5_and_stays(tmp_path, capsys, peers):
    store = CheckpointStore(tmp_path / "alice")
    other = Belongs(peer="alice", space_id="0" * 32, seed=0)
    path = store.save(
        Checkpoint(belongs=other, protocol="rounds", state={"round": 3}, vector=np.zeros(4, np.float32))
    )
    code, complaint = run(tmp_path, capsys)
    assert (code, str(path) in complaint, "space_id" in complaint) == (5, True, True)
    assert path.exists()
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    code, complaint = run(tmp_path, capsys)
    assert (code, "was changed after it was written" in complaint) == (5, True)
    code, _ = run(tmp_path, capsys, "--fresh", "--set", "node.start_timeout_s=0.1")
    assert code == 3, "--fresh starts over"
    assert (tmp_path / "alice" / "previous" / "checkpoints" / path.name).exists()


def test_a_checkpoint_of_another_network_is_told_in_the_users_words(tmp_path, capsys):
    make_homes(tmp_path, ("alice",))
    options = ("--rounds", "1", "--set", "local.steps=1")
    assert run(tmp_path, capsys, *options)[0] == 0
    code, complaint = run(tmp_path, capsys, *options, "--set", "model.hidden=[32]")
    assert (code, "is of another model: [model], or what the data decide of it" in complaint) == (5, True)
    code, complaint = run(tmp_path, capsys, *options, "--seed", "7")
    assert (code, "is of a run with seed = 0, and this one has seed = 7" in complaint) == (5, True)


def test_a_peer_alone_in_its_file_learns_alone_and_resumes(tmp_path, capsys):
    make_homes(tmp_path, ("alice",))
    options = ("--rounds", "2", "--set", "local.epochs=1", "--set", "topology.kind=full")
    assert run(tmp_path, capsys, *options)[0] == 0
    first = json.loads((tmp_path / "alice" / "summary.json").read_text())
    assert (first["state"], first["rounds"]) == ("finished", 2)
    model = safetensors.torch.load_file(tmp_path / "alice" / "model.safetensors")
    (tmp_path / "alice" / "model.safetensors").unlink()  # as if killed after the last checkpoint
    (tmp_path / "alice" / "summary.json").unlink()
    assert run(tmp_path, capsys, *options)[0] == 0
    written = safetensors.torch.load_file(tmp_path / "alice" / "model.safetensors")
    assert all(torch.equal(written[name], tensor) for name, tensor in model.items())
    again = json.loads((tmp_path / "alice" / "summary.json").read_text())
    assert [again[key] for key in ("state", "rounds", "accuracy", "bytes")] == [
        first[key] for key in ("state", "rounds", "accuracy", "bytes")
    ]
    assert run(tmp_path, capsys, "--rounds", "3", *options[2:])[0] == 0
    second = json.loads((tmp_path / "alice" / "summary.json").read_text())
    assert (second["rounds"], second["space_id"]) == (3, first["space_id"])


def test_a_peers_file_that_names_nobody_else_is_told_of_by_check_and_at_the_start(tmp_path, capsys):
    peers = make_homes(tmp_path, ("alice",))
    given = ["--peers", str(peers), "--home", str(tmp_path / "alice"), "--rounds", "1"]
    told = f"{peers} names nobody but 'alice': it learns alone; "
    assert cli.run(["check", *given, "--json"]) == 0
    assert [each[: len(told)] for each in json.loads(capsys.readouterr().out)["warnings"]] == [told]
    assert cli.run(["check", *given]) == 0
    assert f"  WARNING     {told}" in capsys.readouterr().out
    assert cli.run(given) == 0
    assert capsys.readouterr().err.count(told) == 1
    assert cli.run(["check", *given, "--algorithm", "local", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == []


def test_two_peers_are_not_told_that_they_are_alone(tmp_path, capsys, peers):
    given = ["--peers", str(peers), "--home", str(tmp_path / "alice"), "--json"]
    assert cli.run(["check", *given]) == 3
    assert json.loads(capsys.readouterr().out)["warnings"] == []


def test_a_wrong_metrics_address(tmp_path, capsys, peers):
    code, complaint = run(tmp_path, capsys, "--metrics", "nonsense")
    assert code == 2
    assert "--metrics nonsense: must be HOST:PORT" in complaint


@pytest.mark.parametrize("command", [(), ("check",)])
def test_a_wrong_listen_address(tmp_path, capsys, peers, command):
    code, complaint = run(tmp_path, capsys, "--listen", "nonsense", command=command)
    assert code == 2
    assert "--listen: 'nonsense' is not an address" in complaint


def test_options_before_a_command_are_not_silently_ignored(tmp_path, capsys):
    assert cli.run(["--home", str(tmp_path / "bob"), "status"]) == 2
    assert "--home stands before the command 'status'" in capsys.readouterr().err
