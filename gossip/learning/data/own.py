"""Samples from a user's function."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gossip import seeding
from gossip.errors import DataError
from gossip.learning import user_code
from gossip.learning.data.arrays import KEYS
from gossip.learning.settings import DataSettings

Array = npt.NDArray[Any]


def of_function(settings: DataSettings, *, seed: int, folder: Path) -> dict[str, Array]:
    """Call ``FUNCTION(**arguments)``; it returns a dict with the four keys, or the four arrays in that order."""
    key = "[data] source"
    function = user_code.load(settings.source, key=key, folder=folder, error=DataError)
    returned = user_code.call(
        lambda: function(**settings.arguments),
        name=settings.source,
        key=key,
        seed=seeding.integer_seed(seed, "data"),
        error=DataError,
    )
    if isinstance(returned, tuple) and len(returned) == len(KEYS):
        returned = dict(zip(KEYS, returned, strict=True))
    if not isinstance(returned, Mapping):
        raise DataError(
            f"{key} = '{settings.source}': the function returned {type(returned).__name__}; "
            f"it must return a dict with {', '.join(KEYS)}, or these four arrays"
        )
    for wanted in KEYS:
        if wanted not in returned:
            raise DataError(f"{key} = '{settings.source}': the returned dict has no '{wanted}'")
    try:
        return {wanted: np.asarray(returned[wanted]) for wanted in KEYS}
    except (ValueError, TypeError, RuntimeError) as failure:
        raise DataError(
            f"{key} = '{settings.source}': not arrays: {user_code.one_line(failure)}"
        ) from failure
