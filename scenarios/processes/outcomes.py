"""How a peer of real processes has ended, or where it stands: from its home, or from what it told last."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from gossip.wire.messages import type_of
from scenarios.errors import RunFailed
from scenarios.processes.watch import finite
from scenarios.records import PeerOutcome, Traffic, own_of


def lost(name: str, last: Mapping[str, Any] | None, *, started: bool) -> PeerOutcome:
    """Return what is known of a peer that was killed: its last measurement, if it came to tell of one."""
    sent = 0 if last is None else last["bytes_sent"]
    received = 0 if last is None else last["bytes_received"]
    return PeerOutcome(
        peer=name,
        state="crashed" if started else "absent",
        rounds=0 if last is None else last["round"],
        score=None,
        test_loss=None,
        sent=Traffic(protocol=sent, total=sent),
        received=Traffic(protocol=received, total=received),
        messages={},
        rejected_messages={},
        adopted=0,
    )


def read_outcome(name: str, path: Path) -> PeerOutcome:
    """Read what a node says of its own run."""
    try:
        said = finite(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise RunFailed(f"{name} ended well but left no summary: {path}: {error}") from None
    return PeerOutcome(
        peer=name,
        state=said["state"],
        rounds=said["rounds"],
        stopped=said["stopped"],
        score=said["score"],
        test_loss=said["test_loss"],
        own=own_of(said),
        sent=_traffic(said["bytes"]),
        received=_traffic(said["bytes_received"]),
        # Hello, heartbeats and the like belong to the transport, and depend on how long the run took.
        messages={kind: n for kind, n in said["messages"]["by_type"].items() if not is_transport(kind)},
        rejected_messages=said["rejected_messages"],
        adopted=said["adopted"],
        skipped=said["skipped"],
        privacy=said.get("privacy"),
        verdicts=said["verdicts"],
        weights=said["weights"],
        verdicts_on_others=said["verdicts_on_others"],
    )


def is_transport(kind: str) -> bool:
    """Return whether a message type belongs to the connection and not to the protocol."""
    registered = type_of(kind)
    return registered is not None and registered.transport


def _traffic(said: Mapping[str, Any]) -> Traffic:
    return Traffic(**{field.name: said[field.name] for field in fields(Traffic)})
