"""`gossip-scenario pretrain`: from its options to an extractor's file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gossip.errors import SettingError
from gossip.learning import extractor as extractors
from gossip.learning.pretraining import pretrain, random
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.storage.atomic import write_atomically
from scenarios.sweep import parse_seeds


def make(
    path: Path,
    *,
    model: str,
    data: str,
    classes: str | None,
    features: int | None,
    epochs: int,
    lr: float,
    seed: int,
) -> dict[str, Any]:
    """Make an extractor, write it to `path`, and return what there is to tell of it.

    Raises:
        SettingError, DataError: with one sentence.
    """
    if path.suffix != ".safetensors":
        raise SettingError(f"{path}: the name of an extractor's file must end in .safetensors")
    subset = None if classes is None else tuple(_class_numbers(classes))
    samples = DataSettings(source=data, class_subset=subset)
    if model == extractors.RANDOM_FEATURES:
        made = random(samples, features or extractors.FEATURES_DEFAULT, seed=seed, folder=Path.cwd())
    else:
        if features is not None and model != "mlp":
            raise SettingError(f"--features {features}: the width of '{model}' is its own; valid with mlp")
        made = pretrain(
            samples,
            ModelSettings(name=model, hidden=None if features is None else (features,)),
            LocalSettings(lr=lr, epochs=epochs, batch_size=32, momentum=0.9),
            seed=seed,
            folder=Path.cwd(),
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
        "accuracy": made.accuracy if made.samples else None,
    }


def _class_numbers(text: str) -> list[int]:
    try:
        return list(parse_seeds(text))
    except SettingError:
        raise SettingError(f"--classes {text}: must be numbers and ranges, such as 0-4 or 1,3,7") from None
