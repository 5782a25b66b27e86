"""What a source holds, as one value, whatever its kind: before it is known what is to be learnt of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from gossip.learning.data.arrays import KEYS, PAIR, Array
from gossip.learning.data.preparation import AS_IT_IS, Preparation
from gossip.learning.data.rows import Rows, of_array


class FromRows(NamedTuple):
    """Of which table's rows targets come."""

    source: str
    rows: Array
    """(n,) numbers from 1, below the names of the columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Samples and targets of a source. Nothing is made of the targets here: they may be class numbers, names, …"""

    x_train: Array | Rows  # (n, …); as rows where they are to be read a few at a time
    y_train: Array  # (n,) numbers or text
    x_test: Array | Rows | None = None  # (m, …); None: the source has no test samples of its own
    y_test: Array | None = None  # (m,)
    tested: Array | None = None  # (n,) bool
    """Which of the training samples are to be test samples, where the source has none of its own and it is drawn."""
    target: str = "y"
    """What the source calls its targets, for sentences."""
    rows: tuple[FromRows, ...] = ()
    """Of y_train and y_test, where they come from tables; for sentences."""
    class_names: tuple[str, ...] | None = None
    """Where the targets are names of which the source itself says all, in an order: a folder's sub-folders."""
    preparation: Preparation = AS_IT_IS
    doubts: tuple[str, ...] = field(default=())
    """What may be a mistake, in a sentence each."""

    @classmethod
    def of(cls, arrays: Mapping[str, Array], *, mapped: bool | Literal["auto"] = False) -> Found:
        """Return what an archive or a function gave: the four arrays, or `x` and `y`.

        `mapped` says which samples are to be read a few at a time: all, none, or what is large.
        """
        if set(arrays) == set(PAIR):
            return cls(x_train=of_array(arrays["x"], mapped), y_train=arrays["y"])
        x_train, y_train, x_test, y_test = (arrays[key] for key in KEYS)
        return cls(
            x_train=of_array(x_train, mapped), y_train=y_train, x_test=of_array(x_test, mapped), y_test=y_test
        )
