"""Samples of a user's `torch.utils.data.Dataset`, or of anything else that a DataLoader takes, gathered into arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gossip.errors import DataError
from gossip.learning import user_code
from gossip.learning.data.arrays import Array

ITEMS_MAX = 100_000_000
"""An iterable that goes on for longer has no end."""


def is_torchs(value: object) -> bool:
    """Return whether it is of one of torch's own classes, or a DataLoader, which is refused later."""
    return isinstance(value, (Dataset, DataLoader))


def is_dataset(value: object) -> bool:
    """Return whether a DataLoader could take it: items by number, or one after another; arrays are no such thing."""
    if is_torchs(value):
        return True
    if isinstance(value, (np.ndarray, Tensor, str, bytes, Mapping, tuple)):
        return False
    return _by_number(value) or hasattr(value, "__iter__")


def _by_number(value: object) -> bool:
    return hasattr(value, "__getitem__") and hasattr(value, "__len__")


def gathered(dataset: Any, *, name: str, seed: int) -> tuple[Array, Array]:
    """Return samples (n, …) and targets (n,) of a dataset whose items are pairs (x, y).

    The global generators are seeded meanwhile: transforms draw from them, and each sample is drawn once.

    Raises:
        DataError: one sentence naming the item that does not fit.
    """
    if isinstance(dataset, DataLoader):
        raise DataError(f"{name} returned a DataLoader; return its dataset: batches are made here")
    xs: list[Array] = []
    ys: list[Array] = []
    with user_code.seeded_globals(seed):
        for index, item in enumerate(_items(dataset, name)):
            if index >= ITEMS_MAX:
                raise DataError(f"{name}: more than {ITEMS_MAX} items; does it ever end?")
            x, y = _pair(item, index, name)
            for what, now, first in (("x", x, xs), ("y", y, ys)):
                if first and (now.shape != first[0].shape or now.dtype.kind != first[0].dtype.kind):
                    raise DataError(
                        f"{name}: {what} of item {index} is {now.dtype} of shape {now.shape}, and of item 0 "
                        f"{first[0].dtype} of shape {first[0].shape}; all must be alike"
                    )
            xs.append(x)
            ys.append(y)
    if not xs:
        raise DataError(f"{name}: the dataset is empty")
    return np.stack(xs), np.stack(ys)


def _items(dataset: Any, name: str) -> Iterator[Any]:
    try:
        numbers = range(len(dataset)) if _by_number(dataset) else None
        one_by_one = iter(()) if numbers is not None else iter(dataset)
    except Exception as failure:
        raise DataError(f"{name}: no dataset: {user_code.one_line(failure)}") from failure
    index = 0
    while numbers is None or index < len(numbers):
        try:
            item = next(one_by_one) if numbers is None else dataset[index]
        except StopIteration:
            return
        except Exception as failure:
            raise DataError(f"{name}: item {index} fails: {user_code.one_line(failure)}") from failure
        yield item
        index += 1


def _pair(item: Any, index: int, name: str) -> tuple[Array, Array]:
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        length = f" of {len(item)}" if isinstance(item, (tuple, list)) else ""
        raise DataError(f"{name}: item {index} is a {type(item).__name__}{length}; it must be a pair (x, y)")
    return _array(item[0], "x", index, name), _array(item[1], "y", index, name)


def _array(value: Any, what: str, index: int, name: str) -> Array:
    if type(value).__module__.partition(".")[0] == "PIL":
        raise DataError(
            f"{name}: {what} of item {index} is an image of Pillow's; give the dataset a transform that makes a tensor"
        )
    try:
        if isinstance(value, Tensor):
            value = value.detach().cpu().numpy()
        array = np.array(value)  # of its own: a dataset may fill the same memory again
    except Exception as failure:
        raise DataError(
            f"{name}: {what} of item {index} is no array: {user_code.one_line(failure)}"
        ) from failure
    if array.dtype.kind not in "buifU":
        raise DataError(f"{name}: {what} of item {index} is a {type(value).__name__}; numbers are needed")
    return array
