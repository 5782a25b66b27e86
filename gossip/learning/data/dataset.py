"""Training and test samples, from where `[data]` says."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gossip.errors import DataError
from gossip.learning import user_code
from gossip.learning.data import arrays, hugging_face, images, keys, tables, targets
from gossip.learning.data.arrays import Array
from gossip.learning.data.digits import digits
from gossip.learning.data.doubts import doubts
from gossip.learning.data.found import Found
from gossip.learning.data.npz import read_npz
from gossip.learning.data.own import of_function
from gossip.learning.data.preparation import AS_IT_IS, Preparation
from gossip.learning.data.subsets import aside, only, set_aside, subset
from gossip.learning.settings import DIGITS, DataSettings
from gossip.learning.sources import IMAGE_KEYS, TABLE_KEYS, TABLES
from gossip.parameters import COUNT_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Training and test samples of a classification task."""

    x_train: Tensor  # (n, *input_shape) float32, or int64 where the source holds whole numbers
    y_train: Tensor  # (n,) int64
    x_test: Tensor  # (m, *input_shape), as x_train
    y_test: Tensor  # (m,) int64
    classes: int
    input_shape: tuple[int, ...]
    source: str
    preparation: Preparation = AS_IT_IS
    doubts: tuple[str, ...] = field(default=())
    """What may be a mistake, in a sentence each."""

    def for_layers(self) -> Dataset:
        """Return the same as our own networks take it: float32, and (height, width) with an axis of channels.

        Raises:
            DataError: whole numbers that float32 cannot hold.
        """
        plane = len(self.input_shape) == 2
        if self.x_train.is_floating_point() and not plane:
            return self
        x_train, x_test = (self.as_floats(x) for x in (self.x_train, self.x_test))
        if plane:
            x_train, x_test = x_train[:, None], x_test[:, None]
        return replace(
            self,
            x_train=x_train,
            x_test=x_test,
            input_shape=tuple(x_train.shape[1:]),
            preparation=replace(self.preparation, channel_axis=self.preparation.channel_axis or plane),
        )

    def as_floats(self, x: Tensor) -> Tensor:
        """Return samples as float32.

        Raises:
            DataError: whole numbers that float32 cannot hold.
        """
        if not x.is_floating_point() and int(x.abs().max()) > COUNT_MAX:
            raise DataError(
                f"{self.source}: the samples hold whole numbers above 2^24, of which float32 loses the last digits; "
                "only a network of one's own that looks them up takes them as they are"
            )
        return x.to(torch.float32)


def load(settings: DataSettings, *, seed: int, folder: Path) -> Dataset:
    """Load and check what `[data]` names; paths are relative to `folder`.

    `seed` only enters where `train_max`, `test_max`, `test_fraction` or `test_from_train` draw a subset, and a user's
    function that draws.

    Raises:
        DataError: one sentence naming the source and the key.
    """
    return _classified(_found(settings, seed=seed, folder=folder), settings, seed=seed)


def _found(settings: DataSettings, *, seed: int, folder: Path) -> Found:
    """Return what the source holds."""
    source = settings.source
    if source == DIGITS:
        keys.refuse_others(settings)
        return Found.of(digits())
    if user_code.is_user_code(source):
        keys.refuse_others(settings, "arguments", "test_fraction")
        return _tested(of_function(settings, seed=seed, folder=folder), settings)
    path = folder / Path(source).expanduser()
    test = None if settings.test is None else folder / Path(settings.test).expanduser()
    if source.lower().endswith(".npz"):
        keys.refuse_others(settings, "test_fraction")
        return _tested(Found.of(read_npz(path)), settings)
    if source.lower().endswith(TABLES):
        keys.refuse_others(settings, "test", "test_fraction", *TABLE_KEYS)
        return tables.read_tables(settings, path, test, seed=seed)
    if path.is_dir():
        if hugging_face.is_saved(path):
            return hugging_face.read_saved(settings, path, seed=seed)
        if hugging_face.parquet_files(path):
            return hugging_face.read_parquet(settings, path, seed=seed)
        keys.refuse_others(settings, "test", "test_fraction", *IMAGE_KEYS)
        return images.read_folders(settings, path, test)
    if len(Path(source).parts) > 1 and not path.exists():
        raise DataError(f"[data] source: there is no file or folder {path}")
    raise DataError(
        f"[data] source = '{source}' is unknown; valid: digits, a path that ends in .npz, {', '.join(TABLES)}, a "
        "folder of images or of parquet files, python:FILE:FUNCTION"
    )


def _tested(found: Found, settings: DataSettings) -> Found:
    if found.x_test is not None:
        keys.refuse_test_keys(settings)
    return found


def _classified(found: Found, settings: DataSettings, *, seed: int) -> Dataset:
    """Return what was found as samples of classes."""
    source = settings.source
    if found.x_test is None or found.y_test is None:
        found = _divided(found, settings, seed=seed)
    assert found.x_test is not None
    assert found.y_test is not None
    x_train, x_test = (
        arrays.samples(x, source, key, scaling=settings.scaling)
        for key, x in (("x_train", found.x_train), ("x_test", found.x_test))
    )
    names, y_train, y_test = _class_numbers(found, settings)
    _refuse_unequal(x_train, x_test, found, source)
    for part, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        _refuse_other_length(x, y, part, source)
    classes = arrays.number_of_classes(y_train, y_test, settings, names)
    doubted = (*found.doubts, *doubts(x_train, y_train, y_test, source=source))
    if settings.class_subset is not None:
        x_train, y_train = only(x_train, y_train, settings.class_subset, classes, source=source)
        x_test, y_test = only(x_test, y_test, settings.class_subset, classes, source=source)
        classes = len(settings.class_subset)
        names = tuple(names[label] for label in settings.class_subset) if names else ()
    if settings.test_from_train is not None:
        tested = aside(y_train, settings.test_from_train, source=source, seed=seed)
        x_test, y_test = x_train[tested], y_train[tested]
        x_train, y_train = x_train[~tested], y_train[~tested]
    x_train, y_train = subset(x_train, y_train, settings.train_max, seed=seed, purpose="train_max")
    x_test, y_test = subset(x_test, y_test, settings.test_max, seed=seed, purpose="test_max")
    given = found.x_train
    return Dataset(
        x_train=torch.from_numpy(x_train),
        y_train=torch.from_numpy(y_train),
        x_test=torch.from_numpy(x_test),
        y_test=torch.from_numpy(y_test),
        classes=classes,
        input_shape=tuple(x_train.shape[1:]),
        source=source,
        preparation=replace(
            found.preparation,
            divided_by=arrays.UNIT if given.dtype == np.uint8 and x_train.dtype == np.float32 else 1.0,
            channel_axis=x_train.ndim > given.ndim,
            class_names=names,
        ),
        doubts=doubted,
    )


def _divided(found: Found, settings: DataSettings, *, seed: int) -> Found:
    """Return the same, some of its samples set aside to be tested on."""
    x, y = found.x_train, found.y_train
    if y.ndim != 1 or not len(y) or x.ndim < 2:
        # Which have sentences of their own.
        arrays.samples(x, settings.source, "x", scaling="none")
        arrays.labels(y, settings.source, found.target)
    _refuse_other_length(x, y, "train", settings.source)
    tested = set_aside(y, settings, seed=seed)
    return replace(found, x_train=x[~tested], y_train=y[~tested], x_test=x[tested], y_test=y[tested])


def _class_numbers(found: Found, settings: DataSettings) -> tuple[tuple[str, ...], Array, Array]:
    """Return the classes' names, and the class numbers of training and test samples."""
    parts = {"y_train": found.y_train, "y_test": found.y_test}
    assert found.y_test is not None
    names: tuple[str, ...] = settings.class_names or ()
    if targets.is_text(found.y_train) == targets.is_text(found.y_test):
        names = targets.class_names(
            found.y_train, found.y_test, settings, target=found.target, known=found.class_names
        )
    y_train, y_test = (
        targets.numbers(y, names, settings.source, key if found.target == "y" else found.target)
        for key, y in parts.items()
        if y is not None
    )
    return names, y_train, y_test


def _refuse_unequal(x_train: Array, x_test: Array, found: Found, source: str) -> None:
    if x_train.shape[1:] != x_test.shape[1:]:
        raise DataError(
            f"{source}: a sample has shape {x_train.shape[1:]} in 'x_train' but {x_test.shape[1:]} in 'x_test'"
        )
    if x_train.dtype != x_test.dtype:
        assert found.x_test is not None
        raise DataError(
            f"{source}: 'x_train' holds {found.x_train.dtype}, but 'x_test' {found.x_test.dtype}; both must be whole "
            "numbers, or both real ones"
        )


def _refuse_other_length(x: Array, y: Array, part: str, source: str) -> None:
    if len(x) != len(y):
        raise DataError(f"{source}: 'x_{part}' has {len(x)} samples but 'y_{part}' has {len(y)} labels")
