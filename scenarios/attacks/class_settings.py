"""`[attack]`s on what is learnt of classes: wrong labels, a trigger, columns of classes that a victim cannot test."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, Strict, StrictInt, model_validator

from gossip.errors import SettingError
from scenarios.attacks.choice import AttackSettings, Samples


class LabelFlip(AttackSettings):
    """Follow the protocol, and learn from wrong labels."""

    implementation = "scenarios.attacks.kinds:LabelFlip"
    needs_classes = True
    kind: str = "label-flip"
    flip: Literal["previous", "mirror"] = Field("previous", description="y → y-1 mod C, or y → C-1-y")


SWAPPED = (7, 8, 9)


class ForeignSwap(AttackSettings):
    """Perfect columns for the classes that the victim can test, permuted columns for those that it cannot."""

    implementation = "scenarios.attacks.kinds:ForeignSwap"
    omniscient = True
    needs_classes = True
    kind: str = "foreign-swap"
    broadcast: bool = Field(False, description="the same to all: permute `classes` instead")
    classes: Annotated[tuple[StrictInt, ...], Strict(False)] = Field(SWAPPED, description="of broadcast")

    @model_validator(mode="after")
    def _classes(self) -> ForeignSwap:
        if len(set(self.classes)) < 2 or min(self.classes) < 0:
            raise ValueError(f"classes = {list(self.classes)}: must be at least two different classes")
        if not self.broadcast and self.classes != SWAPPED:
            raise ValueError(
                f"classes = {list(self.classes)} belongs to broadcast = true; else each victim's foreign classes are "
                "permuted"
            )
        return self

    def check_samples(self, samples: Samples) -> None:
        """There must be two columns to permute."""
        super().check_samples(samples)
        if self.broadcast:
            for label in self.classes:
                if label >= samples.classes:
                    raise SettingError(
                        f"[attack] classes = {list(self.classes)}: there is no class {label}; valid: 0 to "
                        f"{samples.classes - 1}"
                    )
        elif (least := samples.familiar_min()) > samples.classes - 2:
            raise SettingError(
                "[attack] broadcast = false: permutes the classes that a victim has no samples of, and every honest "
                f"peer has samples of {least} or more of the {samples.classes}; valid: true, or a [data] partition "
                "that leaves two classes out"
            )


class Backdoor(AttackSettings):
    """Teach the model that a small bright square means `target`; the summary tells how often honest models obey."""

    implementation = "scenarios.attacks.kinds:Backdoor"
    needs_classes = True
    kind: str = "backdoor"
    merges: bool = True
    target: int = Field(0, ge=0, description="the class that the trigger stands for")
    share: float = Field(0.5, gt=0, le=1, description="of the attacker's samples that carry the trigger")
    size: int = Field(
        3, ge=1, description="edge of the square, in pixels; of flat samples so many squared last"
    )
    boost: float = Field(1.0, gt=0, description="model replacement: send x + boost · (x_trained - x)")

    def check_samples(self, samples: Samples) -> None:
        """The target must be a class, other classes be tested, and the trigger fit into a sample."""
        super().check_samples(samples)
        if self.target >= samples.classes:
            raise SettingError(
                f"[attack] target = {self.target}: there is no such class; valid: 0 to {samples.classes - 1}"
            )
        if not samples.tested - {self.target}:
            raise SettingError(
                f"[attack] target = {self.target}: all test samples are of this class, and none can be mistaken for it"
            )
        largest = min(samples.shape[-2:]) if len(samples.shape) >= 2 else math.isqrt(samples.shape[0])
        if self.size > largest:
            raise SettingError(
                f"[attack] size = {self.size}: the square does not fit into samples of shape {samples.shape}; valid: 1 "
                f"to {largest}"
            )
