"""Samples to be judged by or to be predicted, from files as training takes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gossip import seeding
from gossip.errors import DataError
from gossip.inference.loaded import LoadedModel
from gossip.learning import user_code
from gossip.learning.data import frames, images, tables, targets
from gossip.learning.data.arrays import Array
from gossip.learning.data.digits import digits
from gossip.learning.data.npz import read_npz
from gossip.learning.data.own import of_function
from gossip.learning.settings import DataSettings
from gossip.learning.sources import DIGITS, TABLES

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")


class Samples(NamedTuple):
    """Samples as the network takes them, and what they are to be held against."""

    x: Tensor  # (n, *input_shape)
    y: Tensor | None  # (n, …) as the objective takes them; None where the source has no targets
    names: tuple[str, ...] | None = None
    """What each sample is called: the file of an image."""


def read(source: str, model: LoadedModel, *, folder: Path, target: str | None = None) -> Samples:
    """Return all samples of a source; of one with training and test samples those to test on.

    Args:
        source: digits, a path, or python:FILE:FUNCTION, as `[data] source`.
        model: whose preparation they get.
        folder: that relative paths start from.
        target: the column of a table that holds the targets; default: that of the training.

    Raises:
        DataError: one sentence naming source and what is wrong.
    """
    path = folder / Path(source).expanduser()
    if source == DIGITS:
        return _arrays(digits(), model, source)
    if user_code.is_user_code(source):
        settings = DataSettings(source=source, mapped=False)
        found = of_function(settings, seed=seeding.integer_seed(0, "data"), folder=folder)
        x, y = (found.x_train, found.y_train) if found.x_test is None else (found.x_test, found.y_test)
        return _of(x, y, model, source, found.class_names)
    if not path.exists():
        raise DataError(f"--data {source}: there is no such file or folder")
    if source.lower().endswith(".npz"):
        return _arrays(read_npz(path), model, source)
    if source.lower().endswith(TABLES):
        return _table(path, model, target or model.target)
    if path.is_dir():
        return _images(path, model)
    raise DataError(f"--data {source}: is no table ({', '.join(TABLES)}), no .npz and no folder of images")


def _arrays(found: Mapping[str, Array], model: LoadedModel, source: str) -> Samples:
    key = next((suffix for suffix in ("_test", "") if f"x{suffix}" in found), None)
    if key is None:
        raise DataError(f"{source}: has no x_test, nor x")
    return _of(found[f"x{key}"], found.get(f"y{key}"), model, source, None)


def _of(x: Any, y: Any, model: LoadedModel, source: str, names: tuple[str, ...] | None) -> Samples:
    return Samples(model.prepared(x), None if y is None else _targets(y, model, source, "y", names))


def _targets(
    y: Array,
    model: LoadedModel,
    source: str,
    key: str,
    names: tuple[str, ...] | None,
    *,
    rows: Array | None = None,
) -> Tensor:
    called = tuple(model.class_names or names or ())
    return torch.from_numpy(targets.numbers(np.asarray(y), called, source, key, model.objective, rows=rows))


def _table(path: Path, model: LoadedModel, target: str | None) -> Samples:
    if not model.preparation.columns:
        raise DataError(f"{path}: the model has learnt from no table; give samples as it had them")
    words = [column.name for column in model.preparation.columns if column.vocabulary is not None]
    table = frames.read(path, texts=words)
    x = torch.from_numpy(tables.prepare(table, model.preparation, source=str(path)))
    if target is None or target not in table.column_names:
        return Samples(x, None)
    y = tables.target_values(table, target, str(path))
    rows = np.arange(1, len(y) + 1)
    return Samples(x, _targets(y, model, str(path), target, None, rows=rows))


def _images(root: Path, model: LoadedModel) -> Samples:
    if model.preparation.images is None:
        raise DataError(f"{root}: the model has learnt from no image files; give samples as it had them")
    if (root / "train").is_dir() and (root / "test").is_dir():
        root = root / "test"  # as in training
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in IMAGES)
    if not files:
        raise DataError(f"{root}: there are no images ({', '.join(IMAGES)})")
    x = model.prepared(images.prepare(files, model.preparation))
    known = set(model.class_names)
    labels = [path.parent.name for path in files]
    y = _targets(np.array(labels), model, str(root), "folder", None) if known.issuperset(labels) else None
    return Samples(x, y, tuple(str(path.relative_to(root)) for path in files))
