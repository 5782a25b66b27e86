"""What a task file may say in `[objective]`. Free of torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from gossip.settings import Choice, Seam


class ClassificationSettings(Choice):
    """One class per sample: softmax cross-entropy, scored by accuracy."""

    implementation = "gossip.learning.objectives.classification:Classification"
    kind: str = "classification"
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="so much of each sample's weight is spread over all classes"
    )
    class_weights: tuple[float, ...] | None = Field(
        None, strict=False, description="one number per class: what a sample of it counts in the loss"
    )


class MultiLabelSettings(Choice):
    """Any number of labels per sample, each there or not: binary cross-entropy, scored by the micro-averaged F1."""

    implementation = "gossip.learning.objectives.multi_label:MultiLabel"
    kind: str = "multi-label"
    positive_weights: tuple[float, ...] | None = Field(
        None, strict=False, description="one number per label: what its presence counts in the loss"
    )


class RegressionSettings(Choice):
    """Real numbers, one or several per sample, scored by R²."""

    implementation = "gossip.learning.objectives.regression:Regression"
    kind: str = "regression"
    loss: Literal["squared", "absolute", "huber"] = Field("squared", description="of what is missed")
    delta: float = Field(
        1.0, gt=0, description="huber: from where on the loss is linear, in the target's unit"
    )

    @model_validator(mode="after")
    def _of_huber(self) -> RegressionSettings:
        if self.delta != 1.0 and self.loss != "huber":
            raise ValueError(f'delta = {self.delta:g} belongs to loss = "huber"')
        return self


class SequenceSettings(Choice):
    """A token for each position (the next one, or a label): cross-entropy per token, scored by perplexity."""

    implementation = "gossip.learning.objectives.sequence:Sequence"
    kind: str = "sequence"
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="as in classification")


OBJECTIVES = Seam(
    "objective",
    ClassificationSettings,
    MultiLabelSettings,
    RegressionSettings,
    SequenceSettings,
    group="gossip.objectives",
    base="gossip.learning.objectives.base:Objective",
)
Objective = Annotated[SerializeAsAny[Choice], BeforeValidator(OBJECTIVES.validate)]
