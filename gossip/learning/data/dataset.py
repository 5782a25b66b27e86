"""Training and test samples, from where `[data]` says."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gossip.errors import DataError
from gossip.learning import user_code
from gossip.learning.data import arrays, hugging_face, images, keys, tables, targets
from gossip.learning.data.arrays import Array
from gossip.learning.data.digits import digits
from gossip.learning.data.doubts import doubts_of_labels, doubts_of_samples
from gossip.learning.data.found import Found
from gossip.learning.data.mapped import Mapped, Samples, part
from gossip.learning.data.npy import is_of_arrays, read_npy
from gossip.learning.data.npz import read_npz
from gossip.learning.data.own import of_function
from gossip.learning.data.preparation import AS_IT_IS, Preparation
from gossip.learning.data.rows import Rows
from gossip.learning.data.subsets import aside, only, set_aside, subset
from gossip.learning.objectives.base import Objective
from gossip.learning.objectives.classification import Classification
from gossip.learning.settings import DIGITS, DataSettings
from gossip.learning.sources import IMAGE_KEYS, TABLE_KEYS, TABLES
from gossip.parameters import COUNT_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Training and test samples of a task. Targets are in memory; samples may be `Mapped`."""

    x_train: Samples  # (n, *input_shape) float32, or int64 where the source holds whole numbers
    y_train: Tensor  # (n, …) as the objective says: (n,) int64 for classes
    x_test: Samples  # (m, *input_shape), as x_train
    y_test: Tensor  # (m, …)
    classes: int
    """How many outputs the targets need: classes, or what the objective has instead (labels, columns, tokens)."""
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
        if self.x_train.dtype.is_floating_point and not plane:
            return self

        def taken(x: Tensor) -> Tensor:
            x = self.as_floats(x)
            return x[:, None] if plane else x

        x_train, x_test = (
            x.through(taken) if isinstance(x, Mapped) else taken(x) for x in (self.x_train, self.x_test)
        )
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


def load(settings: DataSettings, *, seed: int, folder: Path, objective: Objective | None = None) -> Dataset:
    """Load and check what `[data]` names; paths are relative to `folder`, targets are `objective`'s, or classes.

    `seed` only enters where `train_max`, `test_max`, `test_fraction` or `test_from_train` draw a subset, and a user's
    function that draws.

    Raises:
        DataError: one sentence naming the source and the key.
    """
    objective = objective or Classification()
    try:
        found = _found(settings, seed=seed, folder=folder, classifies=objective.classifies)
    except OSError as failure:  # a folder that is not ours, among others
        raise DataError(
            f"[data] source = '{settings.source}': cannot be read: {failure.strerror or failure}: {failure.filename}"
        ) from failure
    return _dataset(found, settings, objective, seed=seed)


def _found(settings: DataSettings, *, seed: int, folder: Path, classifies: bool) -> Found:
    """Return what the source holds."""
    source = settings.source
    if source == DIGITS:
        keys.refuse_others(settings)
        return Found.of(digits())
    if user_code.is_user_code(source):
        keys.refuse_others(settings, "arguments", "test_fraction", "mapped")
        return _tested(of_function(settings, seed=seed, folder=folder), settings)
    path = folder / Path(source).expanduser()
    test = None if settings.test is None else folder / Path(settings.test).expanduser()
    if source.lower().endswith(".npz"):
        keys.refuse_others(settings, "test_fraction", "mapped")
        found = read_npz(path, mapped=settings.mapped)
        return _tested(Found.of(found, mapped=settings.mapped), settings)
    if source.lower().endswith(TABLES) and not path.is_dir():
        keys.refuse_others(settings, "test", "test_fraction", *TABLE_KEYS)
        return tables.read_tables(settings, path, test, seed=seed, classifies=classifies)
    if path.is_dir() and is_of_arrays(path):
        keys.refuse_others(settings, "test_fraction", "mapped")
        return _tested(Found.of(read_npy(path), mapped=settings.mapped), settings)
    if path.is_dir():
        if hugging_face.is_saved(path):
            return hugging_face.read_saved(settings, path, seed=seed, classifies=classifies)
        if hugging_face.parquet_files(path):
            return hugging_face.read_parquet(settings, path, seed=seed, classifies=classifies)
        keys.refuse_others(settings, "test", "test_fraction", "mapped", *IMAGE_KEYS)
        return images.read_folders(settings, path, test)
    if len(Path(source).parts) > 1 and not path.exists():
        raise DataError(f"[data] source: there is no file or folder {path}")
    raise DataError(
        f"[data] source = '{source}' is unknown; valid: digits, a path that ends in .npz, {', '.join(TABLES)}, a "
        "folder of images, of parquet files or of .npy, python:FILE:FUNCTION"
    )


def _tested(found: Found, settings: DataSettings) -> Found:
    if found.x_test is not None:
        keys.refuse_test_keys(settings)
    return found


def _dataset(found: Found, settings: DataSettings, objective: Objective, *, seed: int) -> Dataset:
    """Return what was found as samples and targets of the objective."""
    source = settings.source
    (x_train, x_test), (y_train, y_test), names = _parts(found, settings, objective, seed=seed)
    classes = len(names) or _outputs(y_train, y_test, settings, objective)
    if settings.class_subset is not None and not objective.classifies:
        raise DataError("[data] class_subset is for objectives that tell classes apart")
    doubted = [*found.doubts, *doubts_of_samples(x_train.shape[1:], source=source)]
    if objective.classifies:
        doubted += doubts_of_labels(
            y_train, y_test, source=source, named=bool(names), counted=settings.classes is not None
        )
    if settings.class_subset is not None:
        x_train, y_train = only(x_train, y_train, settings.class_subset, classes, source=source)
        x_test, y_test = only(x_test, y_test, settings.class_subset, classes, source=source)
        classes = len(settings.class_subset)
        names = tuple(names[label] for label in settings.class_subset) if names else ()
    if settings.test_from_train is not None:
        tested = aside(
            # Where there are no classes, all are of one.
            y_train if objective.classifies else np.zeros(len(y_train), dtype=np.int64),
            settings.test_from_train,
            source=source,
            seed=seed,
        )
        x_test, y_test = part(x_train, tested), y_train[tested]
        x_train, y_train = part(x_train, ~tested), y_train[~tested]
    x_train, y_train = subset(x_train, y_train, settings.train_max, seed=seed, purpose="train_max")
    x_test, y_test = subset(x_test, y_test, settings.test_max, seed=seed, purpose="test_max")
    given = found.x_train
    return Dataset(
        x_train=_tensor(x_train),
        y_train=torch.from_numpy(y_train),
        x_test=_tensor(x_test),
        y_test=torch.from_numpy(y_test),
        classes=classes,
        input_shape=tuple(x_train.shape[1:]),
        source=source,
        preparation=replace(
            found.preparation,
            divided_by=arrays.UNIT if given.dtype == np.uint8 and _kind(x_train) == "float32" else 1.0,
            channel_axis=len(x_train.shape) > len(given.shape),
            class_names=names,
        ),
        doubts=tuple(doubted),
    )


def _tensor(x: Array | Mapped) -> Samples:
    return x if isinstance(x, Mapped) else torch.from_numpy(x)


def _kind(x: Array | Mapped) -> str:
    """Return float32 or int64, of numpy's as of torch's."""
    return str(x.dtype).removeprefix("torch.")


def _outputs(y_train: Array, y_test: Array, settings: DataSettings, objective: Objective) -> int:
    needed = objective.outputs(y_train, y_test)
    if settings.classes is None:
        return needed
    if not objective.numbered:
        raise DataError(f"[data] classes = {settings.classes}: the objective has no classes; leave it out")
    if settings.classes < needed:
        most = f"the largest class number is {needed - 1}" if objective.classifies else f"{needed} are needed"
        raise DataError(f"{settings.source}: {most}, but [data] classes = {settings.classes}")
    return settings.classes


def _parts(
    found: Found, settings: DataSettings, objective: Objective, *, seed: int
) -> tuple[tuple[Array | Mapped, Array | Mapped], tuple[Array, Array], tuple[str, ...]]:
    """Return samples to train and to test on, their targets, and the classes' names."""
    source = settings.source
    raw, ys, suffixes = [found.x_train], [found.y_train], [""]
    if found.x_test is not None and found.y_test is not None:
        raw, ys, suffixes = [*raw, found.x_test], [*ys, found.y_test], ["_train", "_test"]
    given = [x.dtype for x in raw]
    xs = [_prepared(x, f"x{suffix}", settings) for x, suffix in zip(raw, suffixes, strict=True)]
    names: tuple[str, ...] = ()
    if objective.classifies:
        names = targets.class_names(ys, settings, target=found.target, known=found.class_names)
    elif settings.class_names is not None:
        raise DataError("[data] class_names: the objective has no classes; leave it out")
    called = [f"y{suffix}" if found.target == "y" else found.target for suffix in suffixes]
    ys = (
        [
            targets.numbers(y, names, place.source, target, objective, rows=place.rows)
            for y, target, place in zip(ys, called, found.rows, strict=True)
        ]
        if found.rows
        else [
            targets.numbers(y, names, source, target, objective) for y, target in zip(ys, called, strict=True)
        ]
    )
    if len(xs) > 1:
        _refuse_unequal(xs[0], xs[1], given, source)
        if ys[0].shape[1:] != ys[1].shape[1:]:
            raise DataError(
                f"{source}: a target has shape {ys[0].shape[1:]} in 'y_train' but {ys[1].shape[1:]} in 'y_test'"
            )
    for x, y, suffix in zip(xs, ys, suffixes, strict=True):
        if len(x) != len(y):
            raise DataError(f"{source}: 'x{suffix}' has {len(x)} samples but 'y{suffix}' has {len(y)} labels")
    if len(xs) == 1:
        alike = ys[0] if objective.classifies else np.zeros(len(ys[0]), dtype=np.int64)
        tested = set_aside(alike, settings, seed=seed) if found.tested is None else found.tested
        xs, ys = [part(xs[0], ~tested), part(xs[0], tested)], [ys[0][~tested], ys[0][tested]]
    return (xs[0], xs[1]), (ys[0], ys[1]), names


def _prepared(x: Array | Rows, key: str, settings: DataSettings) -> Array | Mapped:
    if isinstance(x, np.ndarray):
        return arrays.samples(x, settings.source, key, scaling=settings.scaling)
    return Mapped.of(x, settings.source, key, scaling=settings.scaling)


def _refuse_unequal(
    x_train: Array | Mapped, x_test: Array | Mapped, given: list[np.dtype[Any]], source: str
) -> None:
    if x_train.shape[1:] != x_test.shape[1:]:
        raise DataError(
            f"{source}: a sample has shape {x_train.shape[1:]} in 'x_train' but {x_test.shape[1:]} in 'x_test'"
        )
    if _kind(x_train) != _kind(x_test):
        raise DataError(
            f"{source}: 'x_train' holds {given[0]}, but 'x_test' {given[1]}; both must be whole numbers, or both real "
            "ones"
        )
