"""Samples from a user's function: arrays, or datasets of torch's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gossip import seeding
from gossip.errors import DataError
from gossip.learning import user_code
from gossip.learning.data import items
from gossip.learning.data.arrays import KEYS, PAIR
from gossip.learning.data.found import Found
from gossip.learning.settings import DataSettings

Array = npt.NDArray[Any]


def of_function(settings: DataSettings, *, seed: int, folder: Path) -> Found:
    """Call ``FUNCTION(**arguments)``.

    It returns a dict with the four keys, or with `x` and `y`; the arrays in that order; one dataset of pairs (x, y), or
    two, of which the second is to be tested on.
    """
    key = "[data] source"
    name = f"{key} = '{settings.source}'"
    function = user_code.load(settings.source, key=key, folder=folder, error=DataError)
    returned = user_code.call(
        lambda: function(**settings.arguments),
        name=settings.source,
        key=key,
        seed=seeding.integer_seed(seed, "data"),
        error=DataError,
    )
    datasets = _datasets(returned)
    if datasets:
        return _gathered(datasets, name, settings, seed=seed)
    if isinstance(returned, tuple) and len(returned) in (len(KEYS), len(PAIR)):
        returned = dict(zip(KEYS if len(returned) == len(KEYS) else PAIR, returned, strict=True))
    if not isinstance(returned, Mapping):
        raise DataError(
            f"{name}: the function returned {type(returned).__name__}; it must return a dict with {', '.join(KEYS)}, "
            "or with x, y, or these arrays; or a dataset of pairs (x, y), or two: to train and to test on"
        )
    keys = PAIR if set(returned) == set(PAIR) else KEYS
    for wanted in keys:
        if wanted not in returned:
            raise DataError(f"{name}: the returned dict has no '{wanted}'")
    try:
        found = {wanted: _array(returned[wanted]) for wanted in keys}
    except (ValueError, TypeError, RuntimeError) as failure:
        raise DataError(f"{name}: not arrays: {user_code.one_line(failure)}") from failure
    return Found.of(found, mapped=settings.mapped)


def _array(value: Any) -> Array:
    # A memmap says how its file is open.
    return value if isinstance(value, np.memmap) else np.asarray(value)


def _datasets(returned: Any) -> list[Any]:
    """Return the datasets among what a function returned: one, or one to train and one to test on."""
    if isinstance(returned, (tuple, list)) and len(returned) == 2:
        # A list may also be a dataset itself, of two pairs.
        are = items.is_dataset if isinstance(returned, tuple) else items.is_torchs
        if all(map(are, returned)):
            return list(returned)
    return [returned] if items.is_dataset(returned) else []


def _gathered(datasets: list[Any], name: str, settings: DataSettings, *, seed: int) -> Found:
    draws = seeding.integer_seed(seed, "data")
    mapped = settings.mapped
    x_train, y_train = items.gathered(datasets[0], name=name, seed=draws, mapped=mapped)
    if len(datasets) == 1:
        return Found(x_train=x_train, y_train=y_train)
    x_test, y_test = items.gathered(datasets[1], name=f"{name} (test)", seed=draws, mapped=mapped)
    return Found(x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
