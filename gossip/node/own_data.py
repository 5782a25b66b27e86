"""What a node says of its own data before it learns: how much there is, and what may be a mistake."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from gossip.storage.atomic import write_atomically

if TYPE_CHECKING:
    from gossip.node.setup import Setup

FILE = "data.json"
"""In the home: of which data the newest start learnt."""

LOOKED_AT_MAX = 4096
"""Samples whose content is compared, evenly spread; how many there are is compared always."""


def told(setup: Setup) -> str:
    """Return e.g. ``300 own samples (3 classes: 0, 1, 5), 120 test samples, from python:mine.py:load``."""
    from gossip.learning.data.mapped import Mapped

    task, shard = setup.task, setup.learner.shard
    names = task.dataset.preparation.class_names
    words = f"{len(shard)} own samples ({task.objective.told(shard.y, names)}), {len(task.dataset.y_test)} test samples"
    if setup.learner.own_test is not None:
        words += f", {len(setup.learner.own_test)} own test samples"
    done = [str(task.dataset.preparation), "mapped" if isinstance(shard.x, Mapped) else ""]
    return "; ".join([f"{words}, from {task.data_settings.source}", *filter(None, done)])


def taken_up(home: Path, setup: Setup) -> str | None:
    """Note which data this start has; return what has changed since the last start of the same run, None if nothing.

    A home that cannot be written is told of elsewhere.
    """
    from gossip.inference.description import hash_of
    from gossip.learning.data.mapped import Mapped

    shard, path = setup.learner.shard, home / FILE
    step = max(1, -(-len(shard) // LOOKED_AT_MAX))
    # Of mapped samples, a few are looked at anyway.
    x = shard.x if isinstance(shard.x, Mapped) else shard.x[::step]
    now = {"samples": len(shard), "content": hash_of(x, shard.y[::step])}
    before = None
    with contextlib.suppress(OSError, ValueError):
        before = json.loads(path.read_text(encoding="utf-8"))
    with contextlib.suppress(OSError):
        write_atomically(path, json.dumps(now).encode(), durable=False)
    if setup.checkpoint is None or not isinstance(before, dict) or before == now:
        return None
    if before.get("samples") == now["samples"]:
        return f"the {now['samples']} own samples are other ones than at the last start; they are learnt from now on"
    had = before.get("samples")
    return (
        f"{now['samples']} own samples, {had} at the last start; all of them are learnt from now on. Where samples to "
        "test on are drawn from one's own, they were drawn anew, and the model may have learnt some of them already"
    )


def note_source(home: Path, setup: Setup) -> None:
    """Note where the data lie and how they are read, so that a finished model can be evaluated on what was kept.

    A home that cannot be written is told of elsewhere.
    """
    from gossip.inference.kept import said_of
    from gossip.storage.run_record import SOURCE

    members = setup.membership
    said = said_of(setup.task, position=members.position, peers=len(members.peers.names))
    with contextlib.suppress(OSError):
        write_atomically(home / SOURCE, json.dumps(said, indent=1).encode(), durable=False)


def spending(setup: Setup) -> list[str]:
    """Return what the rounds that are left will spend of the samples' privacy, told; [] without `[privacy]`."""
    done = 0 if setup.checkpoint is None else setup.checkpoint.round
    budget, rounds = setup.learner.budget, setup.membership.settings.stop.rounds
    return [] if budget is None else [budget.told(max(0, rounds - done))]


def cautions(setup: Setup) -> list[str]:
    """Return what may be a mistake in data, network and settings, a sentence each."""
    from gossip.learning import batches, scales
    from gossip.node import ledger

    task, learner = setup.task, setup.learner
    found = [
        *task.cautions,
        *task.tried,
        scales.caution(learner.scales, task.model_settings),
        ledger.abandoned(setup.options.home, task),
        batches.caution(len(learner.shard), task.local_settings, whose="here"),
    ]
    return [sentence for sentence in found if sentence is not None]
