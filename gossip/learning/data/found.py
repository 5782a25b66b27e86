"""What a source holds, as one value, whatever its kind: before it is known what is to be learnt of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gossip.learning.data.arrays import KEYS, PAIR, Array
from gossip.learning.data.preparation import AS_IT_IS, Preparation


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Samples and targets of a source. Nothing is made of the targets here: they may be class numbers, names, …"""

    x_train: Array  # (n, …)
    y_train: Array  # (n,) numbers or text
    x_test: Array | None = None  # (m, …); None: the source has no test samples of its own
    y_test: Array | None = None  # (m,)
    tested: Array | None = None  # (n,) bool
    """Which of the training samples are to be test samples, where the source has none of its own and it is drawn."""
    target: str = "y"
    """What the source calls its targets, for sentences."""
    class_names: tuple[str, ...] | None = None
    """Where the targets are names of which the source itself says all, in an order: a folder's sub-folders."""
    preparation: Preparation = AS_IT_IS
    doubts: tuple[str, ...] = field(default=())
    """What may be a mistake, in a sentence each."""

    @classmethod
    def of(cls, arrays: Mapping[str, Array]) -> Found:
        """Return what an archive or a function gave: the four arrays, or `x` and `y`."""
        if set(arrays) == set(PAIR):
            return cls(x_train=arrays["x"], y_train=arrays["y"])
        x_train, y_train, x_test, y_test = (arrays[key] for key in KEYS)
        return cls(x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
