"""An objective that is not ours, held to what the seam asks: what it does wrong is one sentence, whenever that is."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from gossip import plugins
from gossip.errors import GossipError, SettingError
from gossip.learning.objectives.base import OUTPUTS_MAX, Array, Measured, Names, Objective, Score
from gossip.learning.objectives.settings import OBJECTIVES
from gossip.settings import Choice


def made(choice: Choice) -> Objective:
    """Return the objective that `choice` configures.

    Raises:
        SettingError: it cannot be made of these settings.
    """
    if type(choice) in OBJECTIVES.ours():
        ours: Objective = choice.load()(choice)
        return ours
    return OfOthers(choice)


class OfOthers(Objective):
    """A user's or a package's objective. Whatever it raises, or returns otherwise than its base says, is told.

    Raises:
        SettingError: one sentence that names the kind and the method; from every method.
    """

    def __init__(self, choice: Choice) -> None:
        super().__init__(choice)
        self.where = f"[objective] kind = '{choice.kind}'"
        try:
            self._own: Objective = choice.load()(choice)
        except GossipError:
            raise
        except (Exception, SystemExit) as failure:
            raise SettingError(
                f"{self.where} fails when it is made: {plugins.one_line(failure)}"
            ) from failure
        score = getattr(self._own, "score", None)
        if not isinstance(score, Score):
            raise SettingError(
                f'{self.where}: score is {score!r:.80}; it must be a Score, such as Score("r2"), of '
                "gossip.learning.objectives.base"
            )
        self.score = score
        self.classifies, self.numbered = bool(self._own.classifies), bool(self._own.numbered)
        self.plain, self.counts_hits = bool(self._own.plain), bool(self._own.counts_hits)

    def targets(self, array: Array, *, source: str, key: str) -> Array:
        """Return its targets; they must be an array of numbers."""
        found = self._called("targets", array, source=source, key=key)
        if not isinstance(found, np.ndarray) or not _kept_by_torch(found):
            told = f"{found.dtype} of shape {found.shape}" if isinstance(found, np.ndarray) else _kind(found)
            raise self._wrong("targets", told, "an array (n, …) of int64 or float32")
        return np.ascontiguousarray(found)

    def outputs(self, train: Array, test: Array) -> int:
        """Return how many outputs it wants; that must be a whole number."""
        found = self._called("outputs", train, test)
        wanted = f"a whole number from 1 to {OUTPUTS_MAX}"
        try:
            count = operator.index(found)
        except TypeError:
            raise self._wrong("outputs", f"{found!r:.80}", wanted) from None
        if not 1 <= count <= OUTPUTS_MAX:
            raise self._wrong("outputs", str(count), wanted)
        return count

    def shape(self, targets: Tensor, outputs: int) -> tuple[int, ...]:
        """Return the shape that it wants; that must be a tuple of whole numbers."""
        found = self._called("shape", targets, outputs)
        try:
            shape = tuple(operator.index(each) for each in found)
        except TypeError:
            raise self._wrong("shape", f"{found!r:.80}", "a tuple of whole numbers") from None
        return shape

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return its loss; that must be one number that hangs on the outputs."""
        found = self._called("loss", outputs, targets)
        if not isinstance(found, Tensor) or found.dim() or not found.is_floating_point():
            raise self._wrong("loss", _told(found), "a tensor of shape (), the mean of the mini-batch")
        if outputs.requires_grad and not found.requires_grad:
            raise SettingError(
                f"{self.where}: what loss returns is cut off from the outputs and has no gradient; it must be made of "
                "them by torch, without detach(), item() or numpy"
            )
        return found

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return its sums; they must be a vector."""
        found = self._called("sums", outputs, targets)
        if not isinstance(found, Tensor) or found.dim() != 1:
            raise self._wrong("sums", _told(found), "a tensor (k,) float64, to which batches add up")
        return found

    def measured(self, sums: Tensor) -> Measured:
        """Return what it measures; that must be a loss and a score."""
        found = self._called("measured", sums)
        try:
            return Measured(float(found.loss), float(found.score))
        except (AttributeError, TypeError, ValueError, RuntimeError):
            raise self._wrong("measured", f"{found!r:.80}", "Measured(loss, score), two numbers") from None

    def metrics(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Any]:
        """Return its metrics, by name."""
        found = self._called("metrics", outputs, targets)
        if not isinstance(found, Mapping):
            raise self._wrong("metrics", _told(found), "a dict of plain values")
        return found

    def chance(self, outputs: int) -> float:
        """Return its loss of who knows nothing; that must be a number."""
        found = self._called("chance", outputs)
        try:
            return float(found)
        except (TypeError, ValueError, RuntimeError):
            raise self._wrong("chance", f"{found!r:.80}", "a number") from None

    def predicted(self, outputs: Tensor) -> Tensor:
        """Return what it makes of outputs; that must be a tensor."""
        found = self._called("predicted", outputs)
        if not isinstance(found, Tensor):
            raise self._wrong("predicted", _told(found), "a tensor (n, …)")
        return found

    def told(self, targets: Tensor, names: Names = ()) -> str:
        """Return its clause about targets."""
        return str(self._called("told", targets, names))

    def check_outputs(self, found: Any, targets: Tensor, outputs: int) -> str | None:
        """Return its clause about outputs that are none."""
        self.shape(targets, outputs)
        wrong = self._called("check_outputs", found, targets, outputs)
        return None if wrong is None else str(wrong)

    def _called(self, method: str, *arguments: Any, **keywords: Any) -> Any:
        try:
            return getattr(self._own, method)(*arguments, **keywords)
        except GossipError:
            raise
        except (Exception, SystemExit) as failure:
            raise SettingError(f"{self.where}: {method} fails: {plugins.one_line(failure)}") from failure

    def _wrong(self, method: str, found: str, wanted: str) -> SettingError:
        return SettingError(f"{self.where}: {method} returns {found}; it must be {wanted}")


def _kept_by_torch(array: Array) -> bool:
    dtype = array.dtype
    return array.ndim > 0 and dtype.kind in "biuf" and dtype.isnative and dtype.itemsize <= 8


def _told(found: Any) -> str:
    if not isinstance(found, Tensor):
        return _kind(found)
    return f"{str(found.dtype).removeprefix('torch.')} of shape {tuple(found.shape)}"


def _kind(found: Any) -> str:
    return "None" if found is None else type(found).__name__
