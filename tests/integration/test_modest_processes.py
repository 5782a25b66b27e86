"""MoDeST with real nodes: killed, started again and asked to leave in the middle; and what nodes refuse."""

from __future__ import annotations

import json
import signal

import pytest

import scenarios
from gossip.errors import SettingError
from gossip.node.options import NodeOptions
from gossip.node.setup import find_membership
from tests.integration import homes

SCENARIO = """
[scenario]
name = "modest-nodes"
peers = 6
algorithm = "modest"
[data]
source = "digits"
partition = { kind = "iid" }
[model]
name = "mlp"
hidden = [16]
[local]
steps = 20
[protocol]
kind = "modest"
sample_size = 3
aggregators = 2
success_fraction = 0.6
ping_timeout_s = 0.5
ping_again_s = 0.3
aggregate_timeout_s = 0.5
send_again_s = 1.0
stall_s = 2.0
refresh_s = 1.0
activity_window = 10
[evaluate]
every = 20
[net]
upload_mbps_max = 1.0
[node]
start_timeout_s = 60.0
[faults]
list = [
  { at = 0.3, do = "crash", peers = [3, 4] },
  { at = 0.4, do = "leave", peers = [5] },
  { at = 0.6, do = "restart", peers = [4] },
]
[stop]
rounds = 40
"""


def test_nodes_that_are_killed_leave_and_come_back_go_on_to_the_end(tmp_path):
    path = tmp_path / "modest-nodes.toml"
    path.write_text(SCENARIO)
    summary = scenarios.run(str(path), engine="processes", out=tmp_path / "run", report=False).summary
    assert summary["rounds"] == 40
    assert summary["accuracy"]["min"] > 0.8
    # Two aggregators may average different models in the last round, and each peer has one of the two.
    assert summary["consensus_distance"] < 1
    states = {}
    for name in ("peer-00", "peer-01", "peer-02", "peer-04"):
        said = json.loads((tmp_path / "run" / "peers" / name / "summary.json").read_text())
        states[name] = (said["state"], said["rounds"])
    assert set(states.values()) == {("finished", 40)}
    left = json.loads((tmp_path / "run" / "peers" / "peer-05" / "summary.json").read_text())
    assert left["state"] == "interrupted"
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    done = [
        (each["event"], each["peer"]) for each in events if each["event"] in ("crashed", "left", "restarted")
    ]
    assert sorted(done) == [
        ("crashed", "peer-03"),
        ("crashed", "peer-04"),
        ("left", "peer-05"),
        ("restarted", "peer-04"),
    ]


def test_whoever_is_added_to_the_file_later_takes_part_at_once_though_somebody_is_missing(tmp_path):
    peers = homes.make_homes(tmp_path, ["alice", "bob", "carol", "dave", "erin"])
    everybody = peers.read_text()
    peers.write_text("".join(line for line in everybody.splitlines(keepends=True) if "erin" not in line))
    task = ["--algorithm", "modest", "--rounds", "100000"]
    for setting in ("sample_size=2", "ping_timeout_s=0.5", "ping_again_s=0.2", "activity_window=5"):
        task += ["--set", f"protocol.{setting}"]
    for setting in ("aggregate_timeout_s=0.5", "send_again_s=1.0", "stall_s=2.0", "refresh_s=0.5"):
        task += ["--set", f"protocol.{setting}"]
    for setting in ("local.epochs=", "local.steps=5", "evaluate.every=50"):
        task += ["--set", setting]
    nodes = {name: homes.Running(tmp_path, name, *task) for name in ("alice", "bob", "carol", "dave")}
    with homes.all_ended(list(nodes.values())):
        homes.eventually(lambda: nodes["alice"].round() > 7, "alice and the others learn")
        nodes["dave"].signal(signal.SIGKILL)
        peers.write_text(everybody)
        for name in ("alice", "bob", "carol"):
            nodes[name].process.send_signal(signal.SIGHUP)
        nodes["erin"] = homes.Running(tmp_path, "erin", *task)
        with homes.all_ended([nodes["erin"]]):

            def of(name: str, key: str) -> object:
                return nodes[name].status().get("protocol", {}).get(key)

            homes.eventually(lambda: (of("erin", "participations") or 0) > 2, "erin takes part")
            # It has not waited for dave: somebody told it that all had begun.
            assert "starting without" not in nodes["erin"].said()
            homes.eventually(lambda: of("alice", "registered") == 5, "alice knows of erin")
            assert nodes["erin"].round() > 7
            assert nodes["erin"].status()["topology"] is None
            assert nodes["bob"].signal(signal.SIGTERM) == 130
            homes.eventually(lambda: of("erin", "registered") == 4, "erin knows that bob has left")
            round = nodes["erin"].round()
            homes.eventually(lambda: nodes["erin"].round() > round + 5, "the others go on")


def test_everybody_else_is_a_contact_and_the_baseline_with_a_server_is_refused(tmp_path):
    names = ["alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan"]
    peers = homes.make_homes(tmp_path, names)

    def membership(algorithm: str):
        return find_membership(
            NodeOptions(peers=peers, home=tmp_path / "dave", arguments={"algorithm": algorithm})
        )

    assert membership("modest").contacts == tuple(name for name in names if name != "dave")
    assert len(membership("d-psgd").contacts) < len(names) - 1
    with pytest.raises(SettingError, match="needs a central peer"):
        membership("fedavg")


def test_fedavg_has_a_central_peer_which_no_node_is(tmp_path):
    with pytest.raises(SettingError, match=r"needs a central peer.*--engine virtual"):
        scenarios.run(
            "modest",
            engine="processes",
            out=tmp_path / "run",
            overrides={"scenario.algorithm": "fedavg", "protocol.kind": "fedavg"},
        )


LIED_TO = """
algorithm = "modest"
[data]
source = "digits"
partition = { kind = "iid" }
[model]
name = "mlp"
hidden = [16]
[local]
steps = 30
[protocol]
kind = "modest"
aggregators = 3
[evaluate]
every = 12
[stop]
rounds = 12
"""


def test_five_nodes_learn_to_the_end_with_one_that_tells_all_lies_at_once(tmp_path):
    """Of rounds, of the end, of numbers, of others, and with false models, ten times a second."""
    names = ["alice", "bob", "carol", "dave", "erin"]
    peers = homes.make_homes(tmp_path, [*names, "mallory"])
    task = tmp_path / "task.toml"
    task.write_text(LIED_TO)
    lies = ["lies", str(peers), str(tmp_path / "mallory"), str(task)]
    liar = homes.forked("mallory", lies, tmp_path / "mallory.log", program="tests.integration.modest_liar")
    nodes = [homes.Running(tmp_path, name, "--task", str(task)) for name in names]
    with homes.all_ended(nodes):
        for node in nodes:
            assert node.process.wait(homes.PATIENCE_S) == 0, node.said()
    assert liar.wait() == 0, (tmp_path / "mallory.log").read_text()
    for name in names:
        said = json.loads((tmp_path / name / "summary.json").read_text())
        assert (said["state"], said["rounds"]) == ("finished", 12)
        assert said["accuracy"] > 0.85
