"""What a node says of itself: for whom it waits, until when, and at the end where the model is and how good."""

from __future__ import annotations

import json
import logging
import re
import signal

import pytest

from gossip import cli
from gossip.node import waits
from tests.integration.homes import Running, all_ended, eventually, make_homes

AT_ONCE = "import gossip.node.waits\ngossip.node.waits.TOLD_AFTER_S = 0.0\n"


@pytest.fixture(autouse=True)
def _quiet_logs_afterwards():
    yield
    logging.getLogger("gossip").handlers.clear()


def test_the_end_says_where_the_model_is_and_how_good_it_is(tmp_path, capsys):
    make_homes(tmp_path, ("alice",))
    home = tmp_path / "alice"
    where = ["--peers", str(tmp_path / "peers.txt"), "--home", str(home), "--set", "topology.kind=full"]
    assert cli.run([*where, "--rounds", "2", "--set", "local.epochs=1"]) == 0
    accuracy = json.loads((home / "summary.json").read_text())["accuracy"]
    told = [line for line in capsys.readouterr().err.splitlines() if "done: " in line]
    assert len(told) == 1
    assert told[0].endswith(
        f"done: the model is in {home / 'model.safetensors'}; accuracy {100 * accuracy:.1f} % on 400 test samples "
        "after round 2 of 2"
    )
    assert cli.run([*where, "--rounds", "2", "--set", "local.epochs=1"]) == 0
    assert (
        f"all 2 rounds are done already, the model is in {home / 'model.safetensors'}"
        in capsys.readouterr().err
    )


def test_the_start_says_whom_it_waits_for(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(waits, "TOLD_AFTER_S", 0.0)
    make_homes(tmp_path, ("alice", "bob"))
    where = ["--peers", str(tmp_path / "peers.txt"), "--home", str(tmp_path / "alice")]
    assert cli.run([*where, "--set", "node.start_timeout_s=0.8"]) == 3
    told = re.findall(
        r"not started yet: waiting for (.+), until \d\d:\d\d:\d\d at the latest", capsys.readouterr().err
    )
    assert told == ["bob"]


def test_in_a_round_and_when_done_too(tmp_path):
    make_homes(tmp_path, ("alice", "bob"))
    task = ("--rounds", "4", "--set", "local.epochs=1", "--set", "node.linger_down_s=1.5")
    alice = Running(tmp_path, "alice", *task, prelude=AT_ONCE)
    bob = Running(tmp_path, "bob", *task, pace_s=1.2)
    with all_ended([alice, bob]):
        in_a_round = "in the middle of a round: waiting for bob, until"
        eventually(lambda: in_a_round in alice.said(), "alice says that she waits for bob's model")
        bob.signal(signal.SIGKILL)
        assert alice.process.wait() == 0, alice.said()
    assert alice.said().count(in_a_round) == 1
    assert "done, slower peers may need us: waiting for bob, until" in alice.said()
