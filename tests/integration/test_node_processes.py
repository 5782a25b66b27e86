"""Real processes over TLS: they learn, survive `kill -9` and Ctrl-C, and refuse who means another run."""

from __future__ import annotations

import signal
import stat

import safetensors.torch
import torch

from gossip.storage.run_record import read_lines
from tests.integration.homes import Running, all_ended, eventually, make_homes

NAMES = ("alice", "bob", "carol")
PACE_S = 0.1
TASK = (
    "--rounds",
    "30",
    "--set",
    "local.epochs=",
    "--set",
    "local.steps=20",
    "--set",
    "local.lr=0.2",
    "--set",
    "node.linger_s=20.0",
    "--set",
    "node.linger_down_s=20.0",
)


def test_three_processes_learn_through_a_kill_and_an_interrupt(tmp_path):
    make_homes(tmp_path, NAMES)
    nodes = {name: Running(tmp_path, name, *TASK, pace_s=PACE_S) for name in reversed(NAMES)}
    started = list(nodes.values())
    with all_ended(started):
        eventually(lambda: all(node.round() >= 3 for node in nodes.values()), "all three do rounds")
        assert len({node.status()["run_id"] for node in nodes.values()}) == 1
        assert stat.S_IMODE((tmp_path / "alice" / "status.sock").stat().st_mode) == 0o600

        assert nodes["bob"].signal(signal.SIGKILL) == -signal.SIGKILL
        at_kill = nodes["alice"].round()
        eventually(lambda: nodes["alice"].round() >= at_kill + 3, "the others go on without bob")
        nodes["bob"] = Running(tmp_path, "bob", *TASK, pace_s=PACE_S)
        started.append(nodes["bob"])
        eventually(lambda: nodes["bob"].round() >= at_kill, "bob is back where he was")
        assert "resuming after round" in nodes["bob"].said()

        assert nodes["carol"].signal(signal.SIGINT) == 130
        nodes["carol"] = Running(tmp_path, "carol", *TASK, pace_s=PACE_S)
        started.append(nodes["carol"])
        for name, node in nodes.items():
            assert node.process.wait(60) == 0, node.said()
            metrics = read_lines(node.home / "metrics.jsonl")
            rounds = [entry["round"] for entry in metrics]
            assert rounds == sorted(set(rounds)), f"{name} tells each round once"
            assert (rounds[-1], metrics[-1]["accuracy"] > 0.9) == (30, True)
            assert len(list((node.home / "checkpoints").iterdir())) == 2
    model = safetensors.torch.load_file(tmp_path / "alice" / "model.safetensors")
    assert {tuple(tensor.shape) for tensor in model.values()} == {(64, 64), (64,), (10, 64), (10,)}
    assert all(bool(torch.isfinite(tensor).all()) for tensor in model.values())


def test_a_peer_that_means_another_run_is_refused_by_the_section_and_the_others_go_on(tmp_path):
    make_homes(tmp_path, NAMES)
    task = (
        "--rounds",
        "5",
        "--set",
        "local.epochs=1",
        "--set",
        "node.start_timeout_s=4.0",
        "--set",
        "node.linger_s=0.0",
    )
    nodes = [Running(tmp_path, name, *task) for name in ("alice", "bob")]
    nodes.append(Running(tmp_path, "carol", *task, "--set", "local.lr=0.3", "--set", "model.hidden=[32]"))
    with all_ended(nodes):
        codes = [node.process.wait(60) for node in nodes]
    assert codes == [0, 0, 3]
    assert "in another run: its settings differ in [local], [model]" in nodes[0].said()
    assert "0 of 2 neighbours reachable" in nodes[2].said()
    assert "settings differ in [local], [model]" in nodes[2].said()
    assert read_lines(tmp_path / "alice" / "metrics.jsonl")[-1]["round"] == 5


def test_insecure_is_loud_and_needs_no_certificates(tmp_path):
    peers = make_homes(tmp_path, ("alice", "bob"))
    lines = [line.split() for line in peers.read_text().splitlines()[1:]]
    peers.write_text("".join(f"{name} {address}\n" for name, address, _ in lines))
    for name, _, _ in lines:
        (tmp_path / name / "identity.pem").unlink()
    task = ("--rounds", "3", "--set", "local.epochs=1", "--insecure")
    nodes = [Running(tmp_path, name, *task, "--name", name) for name in ("alice", "bob")]
    with all_ended(nodes):
        assert [node.process.wait(60) for node in nodes] == [0, 0]
    assert all("INSECURE" in line for line in nodes[0].said().splitlines())


def test_a_death_near_the_end_does_not_hold_up_who_is_finished(tmp_path):
    make_homes(tmp_path, ("alice", "bob"))
    task = ("--rounds", "12", "--set", "local.epochs=2", "--set", "node.neighbours_min=0")
    task = (*task, "--set", "node.linger_s=100000.0", "--set", "node.linger_down_s=0.5")
    nodes = [Running(tmp_path, name, *task, pace_s=PACE_S) for name in ("alice", "bob")]
    with all_ended(nodes):
        eventually(lambda: nodes[0].round() >= 3, "they learn")
        nodes[1].signal(signal.SIGKILL)
        assert nodes[0].process.wait(60) == 0, nodes[0].said()
    assert read_lines(tmp_path / "alice" / "metrics.jsonl")[-1]["round"] == 12
