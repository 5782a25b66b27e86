"""The privacy ledger of a home: found, held against the checkpoint, and on the disk before anything is learnt."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gossip.errors import CheckpointError, SettingError
from gossip.learning.private import budget_of
from gossip.privacy.budget import Budget
from gossip.privacy.ledger import FILE, read_ledger
from gossip.storage.atomic import write_atomically

if TYPE_CHECKING:
    from gossip.learning.task import Task
    from gossip.storage.checkpoints import Checkpoint


def open_budget(
    home: Path, task: Task, samples: int, checkpoint: Checkpoint | None, *, touch: bool
) -> Budget | None:
    """Return the budget of the home's samples; None where the task has no `[privacy]`.

    Args:
        home: of the node.
        task: what is learnt.
        samples: how many of its own the peer trains on.
        checkpoint: what is resumed.
        touch: whether the ledger is to be written, too.

    Raises:
        CheckpointError: what was spent before is not known.
        SettingError: the ledger cannot be written.
    """
    if task.privacy_settings.nothing:
        return None
    path = home / FILE
    ledger = read_ledger(path)
    if checkpoint is not None:
        _hold_against(checkpoint, path, None if ledger is None else ledger.steps)
    budget = budget_of(task, samples, ledger=ledger, write=partial(write_atomically, path))
    assert budget is not None
    if touch:
        try:
            budget.begin()
        except OSError as error:
            raise SettingError(
                f"--home {home}: the privacy ledger {FILE} cannot be written, and nothing is learnt that it does not "
                f"count: {error.strerror}"
            ) from None
    return budget


def _hold_against(checkpoint: Checkpoint, path: Path, steps: int | None) -> None:
    counted = checkpoint.privacy_steps
    if steps is not None and counted is not None and steps >= counted:
        return
    if counted is None:
        what = "was made without [privacy], by gradients that nothing bounds"
    elif steps is None:
        what = f"counts {counted} private steps, and there is no ledger {path}"
    else:
        what = f"counts {counted} private steps, and the ledger {path} is an older one, of {steps}"
    raise CheckpointError(
        f"the checkpoint of round {checkpoint.round} in {path.parent} {what}: how much privacy was spent is not known; "
        "put the newest ledger back, or --fresh to start over"
    )


def abandoned(home: Path, task: Task) -> str | None:
    """Return what is to be said where a home has a ledger and the task no `[privacy]` any more."""
    if not task.privacy_settings.nothing or not (home / FILE).exists():
        return None
    return (
        f"{home / FILE} tells how much privacy was spent, and this task has no [privacy]: models that are sent from "
        "here on bound nothing"
    )
