"""Tells that the node's own model has diverged, or its privacy budget is spent: once, in the log and events.jsonl."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from gossip.learning.divergence import EVENT, Sign, Watch, cause_of, rms_of, told
from gossip.privacy.budget import SPENT
from gossip.telemetry.containment import Containment, said_of, tell

if TYPE_CHECKING:
    from torch import Tensor

    from gossip.learner import Evaluation, Trained
    from gossip.node.setup import Setup

logger = logging.getLogger("gossip.node")


class Alarm:
    """Watches local updates and evaluations.

    Args:
        setup: of the node.
        event: adds a line to events.jsonl.
        contained: whatever fails here ends nothing.
    """

    def __init__(self, setup: Setup, event: Callable[..., None], contained: Containment) -> None:
        self._setup = setup
        self._event = event
        self._contained = contained
        self._watch: Watch | None = None
        self._refused: str | None = None
        self.said: Mapping[str, Any] | None = None
        """What this process said first, or the one that it resumes."""
        self.skipped = 0
        """Mini-batches of this process whose gradient was not finite."""

    def begin(self, model: Tensor) -> None:
        """Begin with `model` [P], the start's or the checkpoint's."""
        task = self._setup.task
        rms = rms_of(model[: task.space.learned_size])
        self._watch = Watch(chance=task.objective.chance(task.dataset.classes), rms=rms)

    def resumed(self, said: Mapping[str, Any]) -> None:
        """Take over what an earlier process has said."""
        self.said = said

    def trained(self, trained: Trained) -> None:
        """Look at a local update."""
        with self._contained("divergence not told"):
            self._look_at_budget(trained.round)
            self.skipped += trained.skipped
            if self._watch is not None and trained.learnt:
                self._note(
                    self._watch.trained(
                        round=trained.round,
                        loss=trained.loss,
                        first_loss=trained.first_loss,
                        steps=trained.steps,
                        skipped=trained.skipped,
                    )
                )

    def evaluated(self, round: int, evaluation: Evaluation, rms: float) -> None:
        """Look at an evaluation after `round` rounds; `rms` as `rms_of` says."""
        with self._contained("divergence not told"):
            if self._watch is not None:
                self._note(self._watch.evaluated(round=round, loss=evaluation.loss, rms=rms))

    def _look_at_budget(self, round: int) -> None:
        """Tell, once each time, that local updates are not done any more for the sake of privacy, and why."""
        budget = self._setup.learner.budget
        if budget is None or budget.refused == self._refused:
            return
        self._refused = budget.refused
        if budget.refused == SPENT:
            sentence = (
                f"the privacy budget is spent in round {round + 1}: ε = {budget.epsilon:.3g}, and another local update "
                f"would come to more than {budget.settings.epsilon_max:g}; from here on this peer only merges"
            )
            tell(logging.WARNING, sentence)
            self._event("privacy_spent", round=round + 1, epsilon=budget.epsilon)
        elif budget.failure is not None:
            tell(
                logging.ERROR,
                f"the privacy ledger cannot be written: {said_of(budget.failure)}; nothing is learnt that it does not "
                "count, and this peer only merges until it can",
            )
        else:
            tell(logging.WARNING, "the privacy ledger is written again, and this peer learns again")

    def _note(self, sign: Sign | None) -> None:
        if sign is None:
            return
        # What comes later follows from it: a line per round for weeks would help nobody.
        self._watch = None
        setup = self._setup
        learner, lr = setup.learner, setup.membership.settings.local.lr
        cause = cause_of(sign, lr=lr, scales=learner.scales, rule=learner.blamed)
        said = told(setup.membership.me.name, sign, cause)
        logger.warning("%s", said["sentence"])
        self._event(EVENT, **said)
        self.said = self.said or said
