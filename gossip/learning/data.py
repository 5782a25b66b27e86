"""Samples: the embedded digits, a user's .npz file, or a user's function; checked before anything learns."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gossip import seeding
from gossip.errors import DataError
from gossip.learning import user_code
from gossip.learning.settings import DataSettings

Array: TypeAlias = npt.NDArray[Any]

KEYS = ("x_train", "y_train", "x_test", "y_test")

DIGITS_TEST_SAMPLES = 400
"""Of 1797 digits; the split is one for all runs and seeds, so that accuracies can be compared."""

CLASSES_MAX = 1_000_000
"""A label above this is a mistake (an identifier, a hash), and an output layer of that width would not fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Training and test samples of a classification task."""

    x_train: Tensor  # (n, *input_shape) float32
    y_train: Tensor  # (n,) int64
    x_test: Tensor  # (m, *input_shape) float32
    y_test: Tensor  # (m,) int64
    classes: int
    input_shape: tuple[int, ...]


def load(settings: DataSettings, *, seed: int, folder: Path) -> Dataset:
    """Load and check what `[data]` names; paths are relative to `folder`.

    uint8 values are divided by 255; samples of two dimensions (height, width) get a channel axis. `seed` only
    enters where `train_max`, `test_max` or `test_from_train` draw a subset, and a user's function that draws.

    Raises:
        DataError: one sentence naming the source and the key.
    """
    source = settings.source
    if settings.arguments and not user_code.is_user_code(source):
        raise DataError(f"[data] arguments belong to a python: source, not to '{source}'")
    if source == "digits":
        arrays = _digits()
    elif user_code.is_user_code(source):
        arrays = _users(settings, seed=seed, folder=folder)
    elif source.endswith(".npz"):
        arrays = _npz(folder / Path(source).expanduser())
    else:
        raise DataError(
            f"[data] source = '{source}' is unknown; valid: digits, a path that ends in .npz, python:FILE:FUNCTION"
        )
    return _checked(arrays, settings, seed=seed)


def _digits() -> dict[str, Array]:
    """Return scikit-learn's handwritten digits: 1397 training and 400 test images (1, 8, 8) in [0, 1]."""
    x, y = _all_digits()
    order = seeding.generator(0, "digits split").permutation(len(y))
    test, train = order[:DIGITS_TEST_SAMPLES], order[DIGITS_TEST_SAMPLES:]
    # Copies, every time: what is kept for the next run is changed by none.
    return {"x_train": x[train], "y_train": y[train], "x_test": x[test], "y_test": y[test]}


@cache
def _all_digits() -> tuple[Array, Array]:
    """Return images (1797, 1, 8, 8) in [0, 1] and labels; parsed once in a process that does many runs."""
    from sklearn.datasets import load_digits  # a second of import that other data does not need

    bunch = load_digits()
    return bunch.images.astype(np.float32)[:, None] / 16, bunch.target.astype(np.int64)


def _npz(path: Path) -> dict[str, Array]:
    if not path.is_file():
        raise DataError(f"[data] source: there is no file {path}")
    try:
        # Opened here: numpy leaves its own file open where the archive is cut.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(
                    f"{path} holds a single array; an .npz archive with {', '.join(KEYS)} is needed"
                )
            with archive:
                return {key: _member(archive, path, key) for key in KEYS}
    except (zipfile.BadZipFile, ValueError, EOFError, OSError) as failure:
        raise DataError(f"{path} is not a readable .npz archive: {user_code.one_line(failure)}") from failure


def _member(archive: Any, path: Path, key: str) -> Array:
    if key not in archive:
        raise DataError(
            f"{path} has no array '{key}'; it needs {', '.join(KEYS)} and has {_listed(archive.files)}"
        )
    try:
        return np.asarray(archive[key])
    except (ValueError, zipfile.BadZipFile, EOFError, OSError, MemoryError) as failure:
        reason = "holds Python objects" if "allow_pickle" in str(failure) else user_code.one_line(failure)
        raise DataError(f"{path}: array '{key}' cannot be read: {reason}") from failure


def _listed(names: list[str]) -> str:
    return ", ".join(names[:8]) or "none"


def _users(settings: DataSettings, *, seed: int, folder: Path) -> dict[str, Array]:
    """Call ``FUNCTION(**arguments)``; it returns a dict with the four keys, or the four arrays in that order."""
    key = "[data] source"
    function = user_code.load(settings.source, key=key, folder=folder, error=DataError)
    returned = user_code.call(
        lambda: function(**settings.arguments),
        name=settings.source,
        key=key,
        seed=seeding.integer_seed(seed, "data"),
        error=DataError,
    )
    if isinstance(returned, tuple) and len(returned) == len(KEYS):
        returned = dict(zip(KEYS, returned, strict=True))
    if not isinstance(returned, Mapping):
        raise DataError(
            f"{key} = '{settings.source}': the function returned {type(returned).__name__}; "
            f"it must return a dict with {', '.join(KEYS)}, or these four arrays"
        )
    for wanted in KEYS:
        if wanted not in returned:
            raise DataError(f"{key} = '{settings.source}': the returned dict has no '{wanted}'")
    try:
        return {wanted: np.asarray(returned[wanted]) for wanted in KEYS}
    except (ValueError, TypeError, RuntimeError) as failure:
        raise DataError(
            f"{key} = '{settings.source}': not arrays: {user_code.one_line(failure)}"
        ) from failure


def _checked(arrays: Mapping[str, Array], settings: DataSettings, *, seed: int) -> Dataset:
    source = settings.source
    x_train, x_test = (_samples(arrays[key], source, key) for key in ("x_train", "x_test"))
    y_train, y_test = (_labels(arrays[key], source, key) for key in ("y_train", "y_test"))
    if x_train.shape[1:] != x_test.shape[1:]:
        raise DataError(
            f"{source}: a sample has shape {x_train.shape[1:]} in 'x_train' but {x_test.shape[1:]} in 'x_test'"
        )
    for part, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        if len(x) != len(y):
            raise DataError(f"{source}: 'x_{part}' has {len(x)} samples but 'y_{part}' has {len(y)} labels")
    classes = _classes(y_train, y_test, settings)
    if settings.class_subset is not None:
        x_train, y_train = _only(x_train, y_train, settings.class_subset, classes, source=source)
        x_test, y_test = _only(x_test, y_test, settings.class_subset, classes, source=source)
        classes = len(settings.class_subset)
    if settings.test_from_train is not None:
        aside = _aside(y_train, settings.test_from_train, source=source, seed=seed)
        x_test, y_test = x_train[aside], y_train[aside]
        x_train, y_train = x_train[~aside], y_train[~aside]
    x_train, y_train = _subset(x_train, y_train, settings.train_max, seed=seed, purpose="train_max")
    x_test, y_test = _subset(x_test, y_test, settings.test_max, seed=seed, purpose="test_max")
    return Dataset(
        x_train=torch.from_numpy(x_train),
        y_train=torch.from_numpy(y_train),
        x_test=torch.from_numpy(x_test),
        y_test=torch.from_numpy(y_test),
        classes=classes,
        input_shape=tuple(x_train.shape[1:]),
    )


def _samples(array: Array, source: str, key: str) -> npt.NDArray[np.float32]:
    if array.dtype.kind not in "buif":
        raise DataError(f"{source}: '{key}' holds {array.dtype}; numbers are needed")
    if array.ndim < 2:
        raise DataError(f"{source}: '{key}' has shape {array.shape}; it must be (samples, features…)")
    if array.size == 0:
        raise DataError(f"{source}: '{key}' is empty (shape {array.shape})")
    if array.ndim == 3:
        array = array[:, None]  # (n, height, width) -> (n, 1, height, width)
    with np.errstate(over="ignore"):  # what overflows is found just below
        # Always a copy: torch shares the memory, and a user's array stays the user's.
        x = np.array(array, dtype=np.float32, order="C")
    if array.dtype == np.uint8:
        x /= 255
    finite = np.isfinite(x)
    if not finite.all():
        sample = int(np.argwhere(~finite)[0][0])
        raise DataError(f"{source}: '{key}' is not finite in sample {sample}; remove or replace such values")
    return x


def _labels(array: Array, source: str, key: str) -> npt.NDArray[np.int64]:
    if array.dtype.kind not in "buif":
        raise DataError(f"{source}: '{key}' holds {array.dtype}; class numbers 0, 1, 2, … are needed")
    if array.ndim != 1:
        raise DataError(
            f"{source}: '{key}' has shape {array.shape}; it must be (samples,), one class number each"
        )
    if array.size == 0:
        raise DataError(f"{source}: '{key}' is empty")
    if array.dtype.kind == "f":
        bad = ~np.isfinite(array) | (array != np.floor(array))
        if bad.any():
            place = int(np.flatnonzero(bad)[0])
            raise DataError(f"{source}: '{key}' holds {array[place]} at {place}; class numbers are whole")
    for place in (int(np.argmin(array)), int(np.argmax(array))):
        if not 0 <= array[place] < CLASSES_MAX:
            raise DataError(
                f"{source}: '{key}' holds {array[place]} at {place}; class numbers are 0 … {CLASSES_MAX - 1}"
            )
    return array.astype(np.int64)  # always a copy


def _classes(y_train: Array, y_test: Array, settings: DataSettings) -> int:
    needed = int(max(y_train.max(), y_test.max())) + 1
    if settings.classes is None:
        return max(needed, 2)
    if settings.classes < needed:
        raise DataError(
            f"{settings.source}: the largest class number is {needed - 1}, but [data] classes = {settings.classes}"
        )
    return settings.classes


def _only(
    x: npt.NDArray[np.float32], y: npt.NDArray[np.int64], kept: tuple[int, ...], classes: int, *, source: str
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return the samples of the classes `kept`, which get the numbers of their places in it."""
    if len(kept) < 2 or len(set(kept)) < len(kept) or not all(0 <= label < classes for label in kept):
        raise DataError(
            f"[data] class_subset = {list(kept)}: must be two or more different classes from 0 to {classes - 1}"
        )
    numbers = np.full(classes, -1, dtype=np.int64)
    numbers[list(kept)] = np.arange(len(kept))
    chosen = numbers[y] >= 0
    if not chosen.any():
        raise DataError(f"{source}: no sample has a class of [data] class_subset = {list(kept)}")
    return x[chosen], numbers[y[chosen]]


def _aside(y: npt.NDArray[np.int64], share: float, *, source: str, seed: int) -> npt.NDArray[np.bool_]:
    """Return which samples are drawn to be tested on: the share of each class, of which one at least stays."""
    generator = seeding.generator(seed, "test_from_train")
    aside = np.zeros(len(y), dtype=np.bool_)
    for label in np.unique(y):
        members = np.flatnonzero(y == label)
        count = min(round(share * len(members)), len(members) - 1)
        aside[generator.permutation(members)[:count]] = True
    if not aside.any():
        raise DataError(
            f"[data] test_from_train = {share}: no class of {source} has training samples enough to set one aside"
        )
    return aside


def _subset(
    x: npt.NDArray[np.float32], y: npt.NDArray[np.int64], limit: int | None, *, seed: int, purpose: str
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    if limit is None or limit >= len(y):
        return x, y
    chosen = np.sort(seeding.generator(seed, purpose).permutation(len(y))[:limit])
    return x[chosen], y[chosen]
