"""The table of `gossip-node status`: what a neighbour said is shown as it is, whatever it looks like."""

from __future__ import annotations

from gossip.telemetry.tables import print_status


def test_brackets_in_a_sentence_are_shown_and_are_no_markup(capsys):
    entry = {"name": "bob", "address": "[::1]:7700", "up": False, "error": "differ in [local] [/x]"}
    traffic = {"total": 1}
    about = {
        "name": "alice",
        "state": "running",
        "round": 1,
        "rounds": 2,
        "accuracy": None,
        "insecure": False,
    }
    print_status(
        about
        | {"algorithm": "local", "topology": "full", "run_id": "0", "neighbours": [entry]}
        | {"bytes": traffic, "bytes_received": traffic, "rejected_messages": {}}
    )
    shown = capsys.readouterr().out
    assert "differ in [local] [/x]" in shown
    assert "[::1]:7700" in shown


def test_a_disk_that_takes_nothing_and_what_else_fails_are_shown(capsys):
    traffic = {"total": 1}
    print_status(
        {"name": "alice", "state": "running", "round": 1, "rounds": 9, "accuracy": None, "insecure": False}
        | {"algorithm": "local", "topology": "full", "run_id": "0", "neighbours": [], "round_in_progress": 6}
        | {"bytes": traffic, "bytes_received": traffic, "rejected_messages": {}}
        | {"checkpoint": {"error": "No space left on device"}, "troubles": {"metrics not written": "[full]"}}
    )
    shown = capsys.readouterr().out
    assert "checkpoints cannot be written: No space left on device; round 6 is in progress" in shown
    assert "metrics not written: [full]" in shown


def test_a_model_that_has_diverged_is_shown(capsys):
    traffic = {"total": 1}
    print_status(
        {"name": "alice", "state": "running", "round": 1, "rounds": 9, "accuracy": None, "insecure": False}
        | {"algorithm": "local", "topology": "full", "run_id": "0", "neighbours": []}
        | {"bytes": traffic, "bytes_received": traffic}
        | {"divergence": {"sentence": "alice diverges in round 1: [local] lr = 10"}}
    )
    assert "alice diverges in round 1: [local] lr = 10" in capsys.readouterr().out
