"""`gossip-scenario pretrain`: from its options to an extractor's file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gossip.errors import SettingError
from gossip.learning import extractor as extractors
from gossip.learning.objectives.base import Objective
from gossip.learning.objectives.of_others import made
from gossip.learning.objectives.settings import OBJECTIVES
from gossip.learning.pretraining import pretrain, random
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.storage.atomic import write_atomically
from scenarios.sweep import parse_seeds

EPOCHS_DEFAULT = 30
LR_DEFAULT = 0.1

FEATURES_MAX = 1_000_000
"""Of one sample; as `[model] features`."""


def make(
    path: Path,
    *,
    model: str,
    data: str,
    classes: str | None,
    features: int | None,
    epochs: int | None,
    lr: float | None,
    seed: int,
    objective: str = "classification",
) -> dict[str, Any]:
    """Make an extractor, write it to `path`, and return what there is to tell of it.

    What is None has its default. Nothing is written where training came to nothing.

    Raises:
        SettingError, DataError: with one sentence.
    """
    _check(path, features, lr)
    subset = None if classes is None else tuple(_class_numbers(classes))
    samples = DataSettings(source=data, class_subset=subset)
    scored = _objective(objective)
    if model == extractors.RANDOM_FEATURES:
        _refuse_given({"--classes": classes, "--epochs": epochs, "--lr": lr})
        made = random(samples, features or extractors.FEATURES_DEFAULT, seed=seed, folder=Path.cwd())
    else:
        if features is not None and model != "mlp":
            raise SettingError(f"--features {features}: the width of '{model}' is its own; valid with mlp")
        made = pretrain(
            samples,
            ModelSettings(name=model, hidden=None if features is None else (features,)),
            LocalSettings(
                lr=LR_DEFAULT if lr is None else lr,
                epochs=epochs or EPOCHS_DEFAULT,
                batch_size=32,
                momentum=0.9,
            ),
            seed=seed,
            folder=Path.cwd(),
            objective=scored,
        )
    try:
        write_atomically(path, extractors.save(made.extractor))
    except OSError as failure:
        raise SettingError(f"{path}: cannot be written: {failure.strerror or failure}") from None
    return {
        "path": str(path),
        "extractor_hash": made.extractor.digest,
        "features": made.features,
        "samples": made.samples,
        "accuracy": made.accuracy if math.isfinite(made.accuracy) else None,
        "objective": scored.score.name,
        "score": made.score if math.isfinite(made.score) else None,
        "told": f"{scored.score.label} {scored.score.told(made.score)}" if made.samples else None,
    }


def _check(path: Path, features: int | None, lr: float | None) -> None:
    if path.suffix != ".safetensors":
        raise SettingError(f"{path}: the name of an extractor's file must end in .safetensors")
    if features is not None and features > FEATURES_MAX:
        raise SettingError(f"--features {features}: more than anybody can hold; valid: 1 to {FEATURES_MAX}")
    if lr is not None and not math.isfinite(lr):
        raise SettingError(f"--lr {lr}: must be a finite number")


def _refuse_given(options: Mapping[str, object]) -> None:
    for option, value in options.items():
        if value is not None:
            raise SettingError(
                f"{option} {value}: random features are not trained on anything; leave it out, or take another --model"
            )


def _objective(kind: str) -> Objective:
    try:
        choice = OBJECTIVES.validate({"kind": kind})
    except ValueError as error:
        raise SettingError(f"--objective {kind}: {error}") from None
    return made(choice)


def _class_numbers(text: str) -> list[int]:
    try:
        return list(parse_seeds(text))
    except SettingError:
        raise SettingError(f"--classes {text}: must be numbers and ranges, such as 0-4 or 1,3,7") from None
