"""Whether a merge rule and a protocol fit what is learnt: asked once, before anything runs."""

from __future__ import annotations

from gossip.errors import SettingError
from gossip.learning.task import Task
from gossip.merging.base import Merge


def check_parts(task: Task, parts: int, merge: type[Merge]) -> None:
    """Raise `SettingError` where a protocol divides models into more parts than there are, or than the rule can judge.

    Args:
        task: what is learnt.
        parts: into so many a model is divided to travel.
        merge: the class of the rule.
    """
    classes = task.dataset.classes
    if merge.needs_classes and parts > classes > 0:
        raise SettingError(
            f"[protocol] parts = {parts}: [merge] judges models class by class, and a part of so few numbers holds no "
            f"class whole; valid: 1 to {classes}, the number of classes"
        )
    most = task.space.learned_size
    if parts > max(1, most):
        raise SettingError(
            f"[protocol] parts = {parts}: {most} numbers of the model travel, and a part has one at least; so at most "
            f"{max(1, most)}"
        )


def check_merge(task: Task, merge: Merge) -> None:
    """Raise `SettingError` where the rule cannot merge the task's models, or lacks samples to judge them by."""
    if merge.needs_classes and not task.objective.classifies:
        kind = getattr(merge.settings, "kind", type(merge).__name__)
        raise SettingError(f"[merge] kind = '{kind}' judges models by classes, and the objective has none")
    if merge.declares_classes and not task.privacy_settings.nothing:
        kind = getattr(merge.settings, "kind", type(merge).__name__)
        raise SettingError(
            f"[merge] kind = '{kind}' has models sent with the classes of which their sender has samples, which the "
            "ledger of [privacy] does not count; valid: a rule that looks at models only, such as average"
        )
    merge.check(task.space)
    if merge.needs_validation and not task.data_settings.validation_per_class:
        raise SettingError(
            "[data] validation_per_class = 0: the merge rule judges models by validation samples; 10 is usual"
        )
