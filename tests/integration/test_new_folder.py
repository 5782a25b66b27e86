"""The folder that `gossip-node new` writes runs as it is, and its README's commands are the ones that work."""

from __future__ import annotations

import logging
import re
import shlex

import pytest

from gossip import cli
from gossip.config import load_task
from scenarios import api, scenario
from tests.integration.homes import free_ports, make_homes


@pytest.fixture(autouse=True)
def _quiet_logs_afterwards():
    yield
    logging.getLogger("gossip").handlers.clear()


@pytest.fixture
def folder(tmp_path):
    assert cli.run(["new", str(tmp_path / "own")]) == 0
    return tmp_path / "own"


def test_the_written_scenario_learns(folder):
    overrides = {"stop.rounds": 4, "scenario.peers": 3}
    result = api.run(folder / "scenario.toml", overrides=overrides, out=folder / "run", report=False)
    assert result.summary["accuracy"]["mean"] > 0.6


def test_the_written_task_is_checked_without_complaint(folder, capsys):
    make_homes(folder, ("alice", "bob"))
    where = ["--peers", str(folder / "peers.txt"), "--home", str(folder / "alice")]
    assert cli.run(["check", *where, "--task", str(folder / "task.toml")]) == 3, "nobody answers"
    told = capsys.readouterr()
    assert "10 classes" in told.out
    assert "WARNING" not in told.out
    assert told.err == ""


def test_task_and_scenario_are_the_same_but_for_who_divides_the_rows(folder):
    nodes = load_task(folder / "task.toml").agreement()
    peers = scenario.load(folder / "scenario.toml").task().agreement()
    assert {name for name in nodes if nodes[name] != peers[name]} == {"data.partition"}


def test_the_commands_of_the_readme_are_taken_as_they_stand(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    text = (folder / "README.md").read_text()
    ports = free_ports(3)
    init, check, run = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)[1].splitlines()

    def loop(line):
        counted, command = re.fullmatch(r"for i in ([\d ]+); do (.+?) ?[;&] done.*", line).groups()
        for i in counted.split():
            yield shlex.split(command.replace("770$i", str(ports[int(i)])).replace("$i", i))

    for _, *arguments in loop(init):
        assert cli.run(arguments) == 0
    (folder / "peers.txt").write_text(capsys.readouterr().out)
    assert cli.run(shlex.split(check)[1:]) == 3, "nobody answers yet"
    assert "0 of 2 neighbours reachable" in capsys.readouterr().out
    for _, *arguments in loop(run):
        assert cli.run([*arguments, "--set", "node.start_timeout_s=0"]) == 3
        assert re.search(r"(479|480) own samples", capsys.readouterr().err)


def test_a_folder_that_holds_something_is_left_alone(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    for target, sentence in (
        (tmp_path, "is not empty, it holds notes.txt"),
        (tmp_path / "notes.txt", "is no folder"),
    ):
        assert cli.run(["new", str(target)]) == 2
        assert f"gossip-node: {target}: {sentence}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "empty").mkdir()
    assert cli.run(["new", str(tmp_path / "empty")]) == 0


def test_a_piece_that_there_is_not_is_said(folder, capsys):
    make_homes(folder, ("alice",))
    where = ["--peers", str(folder / "peers.txt"), "--home", str(folder / "alice")]
    assert cli.run([*where, "--task", str(folder / "task.toml"), "--set", "data.arguments.piece=3"]) == 4
    assert "piece = 3: valid are 0 to 2" in capsys.readouterr().err
