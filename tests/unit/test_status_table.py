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
