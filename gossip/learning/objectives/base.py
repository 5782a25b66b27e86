"""The seam `[objective]`: what outputs of a network are for, and how well they do.

An objective takes the network's outputs for a mini-batch and its targets. Losses must be differentiable by torch and
run under `torch.func` transforms; what is measured over a test set is a vector of sums, which batches add up to.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError
from torch import Tensor

from gossip.errors import DataError, SettingError
from gossip.learning.objectives.score import Score as Score
from gossip.settings import Choice, first_complaint

Array = npt.NDArray[Any]
Names = Sequence[str]
C = TypeVar("C", bound=Choice)

OUTPUTS_MAX = 1_000_000
"""A class number above this is a mistake (an identifier, a hash), and an output layer of that width would not fit."""


class Measured(NamedTuple):
    """What the sums over a test set come to."""

    loss: float
    """Mean; NaN or infinite where the model is."""
    score: float


class Objective(abc.ABC):
    """Loss, targets and score.

    Subclasses say what they score by, and whether targets are numbers of classes: rules that judge models by classes
    (Bristle), partitions by label and attacks on labels need those.
    """

    score: Score
    classifies: bool = False
    numbered: bool = False
    """Whether targets are numbers from 0 on, of which there may be more than these data show."""
    plain: bool = False
    """Whether `loss` is the plain mean of softmax cross-entropy, whose gradient linear networks have by hand."""
    counts_hits: bool = False
    """Whether what is measured is that loss and the share of hits, which stacks of models have by hand."""

    def __init__(self, settings: Choice | None = None) -> None:
        self.settings = settings

    @abc.abstractmethod
    def targets(self, array: Array, *, source: str, key: str) -> Array:
        """Return the targets (n, …) of an array as they are kept: int64 or float32, in memory of their own.

        Raises:
            DataError: they are none for this objective.
        """

    @abc.abstractmethod
    def outputs(self, train: Array, test: Array) -> int:
        """Return how many outputs a network needs for these targets: classes, columns, tokens."""

    @abc.abstractmethod
    def shape(self, targets: Tensor, outputs: int) -> tuple[int, ...]:
        """Return the shape that a network's outputs for `targets` (n, …) must have."""

    @abc.abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss () of a mini-batch; differentiable."""

    @abc.abstractmethod
    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return what a batch adds to the measurement of a test set, (k,) float64."""

    @abc.abstractmethod
    def measured(self, sums: Tensor) -> Measured:
        """Return what the sums (k,) over a test set come to."""

    def metrics(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Any]:
        """Return everything worth knowing about outputs (n, …) for targets (n, …): plain values that JSON knows."""
        measured = self.measured(self.sums(outputs, targets))
        return {"loss": measured.loss, self.score.name: measured.score, "samples": len(targets)}

    def chance(self, outputs: int) -> float:
        """Return the loss of who knows nothing, as far as that is known beforehand: above it models have diverged."""
        return 0.0

    def predicted(self, outputs: Tensor) -> Tensor:
        """Return what a user is told for outputs (n, …): a class, labels, numbers, tokens."""
        return outputs

    def told(self, targets: Tensor, names: Names = ()) -> str:
        """Return what targets (n, …) are, as a clause for people; `names` are those of the classes."""
        return f"targets of shape {tuple(targets.shape[1:])}"

    def check_outputs(self, found: Any, targets: Tensor, outputs: int) -> str | None:
        """Return what is wrong with a network's outputs for `targets` (n, …), as a clause; None where nothing is."""
        wanted = self.shape(targets, outputs)
        if not isinstance(found, Tensor):
            return (
                f"gives {type(found).__name__} for {len(targets)} samples; it must give {self._what(wanted)}"
            )
        if tuple(found.shape) != wanted or not found.is_floating_point():
            kind = "" if found.is_floating_point() else f" {str(found.dtype).removeprefix('torch.')}"
            got = f"{tuple(found.shape)}{kind} for {len(targets)} samples"
            return f"gives shape {got}; it must give {self._what(wanted)}"
        return None

    def _what(self, shape: tuple[int, ...]) -> str:
        return f"outputs of shape {shape}"


def settings_of(kind: type[C], given: Choice | None) -> C:
    """Return `given` as settings of `kind`: where a subclass brings its own, what these do not say is as by default.

    Raises:
        SettingError: what they say is none of ours.
    """
    if isinstance(given, kind):
        return given
    said = {
        name: getattr(given, name) for name in kind.model_fields if name != "kind" and hasattr(given, name)
    }
    try:
        return kind(**said)
    except ValidationError as error:
        raise SettingError(f"[objective] {first_complaint(error, kind)[1]}") from None


def numbers(array: Array, *, source: str, key: str, what: str) -> None:
    """Raise `DataError` where an array holds no numbers, or nothing."""
    if array.dtype.kind not in "buif":
        raise DataError(f"{source}: '{key}' holds {array.dtype}; {what} are needed")
    if array.size == 0:
        raise DataError(f"{source}: '{key}' is empty")


def whole(array: Array, *, source: str, key: str, what: str, negative: int | None = None) -> Array:
    """Return numbers of classes as int64, in memory of their own; `negative` is a number that is allowed beside them.

    Raises:
        DataError: not whole, negative or too large.
    """
    numbers(array, source=source, key=key, what=f"{what} 0, 1, 2, …")
    flat = array.reshape(-1)
    if array.dtype.kind == "f":
        bad = ~np.isfinite(flat) | (flat != np.floor(flat))
        if bad.any():
            place = int(np.flatnonzero(bad)[0])
            raise DataError(f"{source}: '{key}' holds {flat[place]} at {_at(place, array)}; {what} are whole")
    allowed = flat if negative is None else flat[flat != negative]
    for extreme in () if not len(allowed) else (allowed.min(), allowed.max()):
        if not 0 <= extreme < OUTPUTS_MAX:
            place = int(np.flatnonzero(flat == extreme)[0])
            raise DataError(
                f"{source}: '{key}' holds {extreme} at {_at(place, array)}; {what} are 0 … {OUTPUTS_MAX - 1}"
            )
    return array.astype(np.int64)


def _at(place: int, array: Array) -> str:
    where = np.unravel_index(place, array.shape)
    return str(place) if array.ndim == 1 else str(tuple(map(int, where)))


def doubled(tensor: Tensor) -> Tensor:
    """Return `tensor` as float64, where the device has that."""
    return tensor.to(torch.float64) if tensor.device.type != "mps" else tensor.cpu().to(torch.float64)
