"""Training and test samples, from where `[data]` says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gossip.errors import DataError
from gossip.learning import user_code
from gossip.learning.data import arrays
from gossip.learning.data.arrays import Array
from gossip.learning.data.digits import digits
from gossip.learning.data.doubts import doubts_of_labels, doubts_of_samples
from gossip.learning.data.npz import read_npz
from gossip.learning.data.own import of_function
from gossip.learning.data.subsets import aside, only, subset
from gossip.learning.objectives.base import Objective
from gossip.learning.objectives.classification import Classification
from gossip.learning.settings import DIGITS, DataSettings
from gossip.parameters import COUNT_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """What was done to the samples before any network saw them; whoever uses the model must do the same."""

    divided_by: float = 1.0
    channel_axis: bool = False
    """Whether (height, width) became (1, height, width)."""

    def __str__(self) -> str:
        done = [f"divided by {self.divided_by:g}"] if self.divided_by != 1 else []
        return " and ".join([*done, *["given an axis of channels"] * self.channel_axis])


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Training and test samples of a task."""

    x_train: Tensor  # (n, *input_shape) float32, or int64 where the source holds whole numbers
    y_train: Tensor  # (n, …) as the objective says: (n,) int64 for classes
    x_test: Tensor  # (m, *input_shape), as x_train
    y_test: Tensor  # (m, …)
    classes: int
    """How many outputs the targets need: classes, or what the objective has instead (labels, columns, tokens)."""
    input_shape: tuple[int, ...]
    source: str
    preparation: Preparation = Preparation()
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


def load(settings: DataSettings, *, seed: int, folder: Path, objective: Objective | None = None) -> Dataset:
    """Load and check what `[data]` names; paths are relative to `folder`, targets are `objective`'s, or classes.

    `seed` only enters where `train_max`, `test_max` or `test_from_train` draw a subset, and a user's function that
    draws.

    Raises:
        DataError: one sentence naming the source and the key.
    """
    source = settings.source
    if settings.arguments and not user_code.is_user_code(source):
        raise DataError(f"[data] arguments belong to a python: source, not to '{source}'")
    if source == DIGITS:
        found = digits()
    elif user_code.is_user_code(source):
        found = of_function(settings, seed=seed, folder=folder)
    elif source.endswith(".npz"):
        found = read_npz(folder / Path(source).expanduser())
    else:
        raise DataError(
            f"[data] source = '{source}' is unknown; valid: digits, a path that ends in .npz, python:FILE:FUNCTION"
        )
    return _checked(found, settings, objective or Classification(), seed=seed)


def _checked(
    found: Mapping[str, Array], settings: DataSettings, objective: Objective, *, seed: int
) -> Dataset:
    source = settings.source
    x_train, x_test = (
        arrays.samples(found[key], source, key, scaling=settings.scaling) for key in ("x_train", "x_test")
    )
    y_train, y_test = (objective.targets(found[key], source=source, key=key) for key in ("y_train", "y_test"))
    if y_train.shape[1:] != y_test.shape[1:]:
        raise DataError(
            f"{source}: a target has shape {y_train.shape[1:]} in 'y_train' but {y_test.shape[1:]} in 'y_test'"
        )
    if x_train.shape[1:] != x_test.shape[1:]:
        raise DataError(
            f"{source}: a sample has shape {x_train.shape[1:]} in 'x_train' but {x_test.shape[1:]} in 'x_test'"
        )
    if x_train.dtype != x_test.dtype:
        raise DataError(
            f"{source}: 'x_train' holds {found['x_train'].dtype}, but 'x_test' {found['x_test'].dtype}; both must be "
            "whole numbers, or both real ones"
        )
    for part, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        if len(x) != len(y):
            raise DataError(f"{source}: 'x_{part}' has {len(x)} samples but 'y_{part}' has {len(y)} labels")
    classes = _outputs(y_train, y_test, settings, objective)
    doubted = [*doubts_of_samples(x_train, source=source)]
    if objective.classifies:
        doubted += doubts_of_labels(y_train, y_test, source=source)
    if settings.class_subset is not None:
        x_train, y_train = only(x_train, y_train, settings.class_subset, classes, source=source)
        x_test, y_test = only(x_test, y_test, settings.class_subset, classes, source=source)
        classes = len(settings.class_subset)
    if settings.test_from_train is not None:
        tested = aside(
            # Where there are no classes, all are of one.
            y_train if objective.classifies else np.zeros(len(y_train), dtype=np.int64),
            settings.test_from_train,
            source=source,
            seed=seed,
        )
        x_test, y_test = x_train[tested], y_train[tested]
        x_train, y_train = x_train[~tested], y_train[~tested]
    x_train, y_train = subset(x_train, y_train, settings.train_max, seed=seed, purpose="train_max")
    x_test, y_test = subset(x_test, y_test, settings.test_max, seed=seed, purpose="test_max")
    given = found["x_train"]
    return Dataset(
        x_train=torch.from_numpy(x_train),
        y_train=torch.from_numpy(y_train),
        x_test=torch.from_numpy(x_test),
        y_test=torch.from_numpy(y_test),
        classes=classes,
        input_shape=tuple(x_train.shape[1:]),
        source=source,
        preparation=Preparation(
            divided_by=arrays.UNIT if given.dtype == np.uint8 and x_train.dtype == np.float32 else 1.0,
            channel_axis=x_train.ndim > given.ndim,
        ),
        doubts=tuple(doubted),
    )


def _outputs(y_train: Array, y_test: Array, settings: DataSettings, objective: Objective) -> int:
    needed = objective.outputs(y_train, y_test)
    if settings.class_subset is not None and not objective.classifies:
        raise DataError("[data] class_subset is for objectives that tell classes apart")
    if settings.classes is None:
        return needed
    if settings.classes < needed:
        most = f"the largest class number is {needed - 1}" if objective.classifies else f"{needed} are needed"
        raise DataError(f"{settings.source}: {most}, but [data] classes = {settings.classes}")
    return settings.classes
