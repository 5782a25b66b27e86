"""Samples of a user's `torch.utils.data.Dataset`, or of anything else that a DataLoader takes.

They are gathered into arrays, or, where these would be large, asked for again whenever a mini-batch needs them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gossip import seeding
from gossip.errors import DataError
from gossip.learning import user_code
from gossip.learning.data import rows
from gossip.learning.data.arrays import Array
from gossip.learning.generators import Watch

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


class ItemRows:
    """The samples of a dataset, asked for by number. Where it draws, an item is the same at every time it is read."""

    def __init__(
        self, dataset: Any, first: Array, dtype: np.dtype[Any], *, name: str, seed: int | None
    ) -> None:
        self.draws = seed is not None
        self.shape = (len(dataset), *first.shape)
        self.dtype = dtype
        self._dataset, self._first, self._name, self._seed = dataset, first, name, seed

    def take(self, numbers: npt.NDArray[np.int64]) -> Array:
        """Return the samples with these numbers."""
        taken = np.empty((len(numbers), *self.shape[1:]), self.dtype)
        for row, number in zip(taken, map(int, numbers), strict=True):
            if self._seed is None:
                item = _item(self._dataset, number, self._name)
            else:
                with user_code.seeded_globals(seeding.integer_seed(self._seed, f"item {number}")):
                    item = _item(self._dataset, number, self._name)
            x, _ = _pair(item, number, self._name)
            _refuse_unlike("x", x, self._first, number, self._name)
            row[...] = x
        return taken


def gathered(
    dataset: Any, *, name: str, seed: int, mapped: bool | Literal["auto"] = False
) -> tuple[Array | ItemRows, Array]:
    """Return samples (n, …) and targets (n,) of a dataset whose items are pairs (x, y).

    The global generators are seeded meanwhile: transforms draw from them, and each sample is drawn once. Of samples
    that are to be read a few at a time, all are looked at here once, and not kept.

    Raises:
        DataError: one sentence naming the item that does not fit.
    """
    if isinstance(dataset, DataLoader):
        raise DataError(f"{name} returned a DataLoader; return its dataset: batches are made here")
    if mapped is True and not _by_number(dataset):
        raise DataError(
            f"{name}: [data] mapped = true needs a dataset that gives items by number, and has a length"
        )
    xs: list[Array] = []
    ys: list[Array] = []
    stay = False
    with user_code.seeded_globals(seed):
        watch = Watch()
        for index, item in enumerate(_items(dataset, name)):
            if index >= ITEMS_MAX:
                raise DataError(f"{name}: more than {ITEMS_MAX} items; does it ever end?")
            x, y = _pair(item, index, name)
            if not ys:
                first_x, first_y, dtype = x, y, x.dtype
                stay = _by_number(dataset) and rows.stay((len(dataset), *x.shape), mapped)
            _refuse_unlike("x", x, first_x, index, name)
            _refuse_unlike("y", y, first_y, index, name)
            dtype = np.promote_types(dtype, x.dtype)
            if not stay:
                xs.append(x)
            ys.append(y)
        drawn = bool(watch.drawn())
    if not ys:
        raise DataError(f"{name}: the dataset is empty")
    if stay:
        return ItemRows(dataset, first_x, dtype, name=name, seed=seed if drawn else None), np.stack(ys)
    return np.stack(xs), np.stack(ys)


def _refuse_unlike(what: str, now: Array, first: Array, index: int, name: str) -> None:
    if now.shape != first.shape or now.dtype.kind != first.dtype.kind:
        raise DataError(
            f"{name}: {what} of item {index} is {now.dtype} of shape {now.shape}, and of item 0 {first.dtype} of shape "
            f"{first.shape}; all must be alike"
        )


def _items(dataset: Any, name: str) -> Iterator[Any]:
    try:
        numbers = range(len(dataset)) if _by_number(dataset) else None
        one_by_one = iter(()) if numbers is not None else iter(dataset)
    except (Exception, SystemExit) as failure:
        raise DataError(f"{name}: no dataset: {user_code.one_line(failure)}") from failure
    index = 0
    while numbers is None or index < len(numbers):
        try:
            item = next(one_by_one) if numbers is None else dataset[index]
        except StopIteration:
            return
        except (Exception, SystemExit) as failure:
            raise _failed(name, index, failure) from failure
        yield item
        index += 1


def _item(dataset: Any, number: int, name: str) -> Any:
    try:
        return dataset[number]
    except (Exception, SystemExit) as failure:
        raise _failed(name, number, failure) from failure


def _failed(name: str, number: int, failure: BaseException) -> DataError:
    return DataError(f"{name}: item {number} fails: {user_code.one_line(failure)}")


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
    except (Exception, SystemExit) as failure:
        raise DataError(
            f"{name}: {what} of item {index} is no array: {user_code.one_line(failure)}"
        ) from failure
    if array.dtype.kind not in "buifU":
        raise DataError(f"{name}: {what} of item {index} is a {type(value).__name__}; numbers are needed")
    return array
