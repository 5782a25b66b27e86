"""Arrays of samples: what they must be, and one sentence for what they are not.

Samples of real numbers become float32. Whole numbers stay whole, as int64: they may be numbers of tokens or categories,
which networks look up, and 2²⁴ + 1 is no float32. Images, uint8 and of an image's shape, are divided by 255 and get an
axis of channels, which is said (`Preparation`); `[data] scaling` says otherwise.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from gossip.errors import DataError

Array: TypeAlias = npt.NDArray[Any]

KEYS = ("x_train", "y_train", "x_test", "y_test")

PAIR = ("x", "y")
"""Of a source that leaves it to others what is tested on."""

CHANNELS = (1, 3, 4)
"""Grey, colours, colours with opacity."""

UNIT = 255.0
"""The largest value of a pixel."""


def looks_like_images(array: Array) -> bool:
    """Return whether these are bytes (n, height, width) or (n, channels, height, width), channels in either place."""
    if array.dtype != np.uint8:
        return False
    return array.ndim == 3 or (array.ndim == 4 and (array.shape[1] in CHANNELS or array.shape[3] in CHANNELS))


def refuse_odd(shape: tuple[int, ...], dtype: np.dtype[Any], source: str, key: str) -> None:
    """Raise `DataError` where an array of this shape and dtype holds no numbers, or no samples."""
    if dtype.kind not in "buif":
        raise DataError(f"{source}: '{key}' holds {dtype}; numbers are needed")
    if len(shape) < 2:
        raise DataError(f"{source}: '{key}' has shape {shape}; it must be (samples, features…)")
    if 0 in shape:
        raise DataError(f"{source}: '{key}' is empty (shape {shape})")


def samples(
    array: Array,
    source: str,
    key: str,
    *,
    scaling: Literal["auto", "unit", "none"],
    numbers: npt.NDArray[np.int64] | None = None,
) -> Array:
    """Return samples (n, …) as float32 or int64, C-contiguous, in memory of their own.

    Args:
        array: (n, …).
        source: for sentences, as `key`.
        key: what the source calls the array.
        scaling: `[data] scaling`.
        numbers: of the samples in the source, where these are not all.

    Raises:
        DataError: no numbers, no samples, or not finite.
    """
    refuse_odd(array.shape, array.dtype, source, key)
    images = looks_like_images(array)
    scaled = scaling == "unit" or (scaling == "auto" and images)
    if scaled and array.dtype != np.uint8:
        raise DataError(
            f"{source}: '{key}' holds {array.dtype}; [data] scaling = \"unit\" is for bytes (uint8), 0 … 255"
        )
    if images and array.ndim == 3:
        array = array[:, None]  # (n, height, width) -> (n, 1, height, width)
    if array.dtype.kind in "ui" and not scaled:
        return _whole(array, source, key)
    with np.errstate(over="ignore"):  # what overflows is found just below
        # Always a copy: torch shares the memory, and a user's array stays the user's.
        x = np.array(array, dtype=np.float32, order="C")
    if scaled:
        x /= UNIT
    if array.dtype.kind != "f":
        return x  # whole numbers and bits are finite, and so is what is made of them
    finite = np.isfinite(x)
    if not finite.all():
        sample = int(np.argwhere(~finite)[0][0])
        sample = sample if numbers is None else int(numbers[sample])
        raise DataError(f"{source}: '{key}' is not finite in sample {sample}; remove or replace such values")
    return x


def _whole(array: Array, source: str, key: str) -> Array:
    if array.dtype.kind == "u" and int(array.max()) > np.iinfo(np.int64).max:
        raise DataError(f"{source}: '{key}' holds {int(array.max())}, which int64 cannot")
    return np.array(array, dtype=np.int64, order="C")
