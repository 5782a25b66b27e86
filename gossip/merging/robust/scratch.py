"""Working space that is kept between merges, one for each thread.

A merge of small models spends more time on fresh pages than on its arithmetic: what is freed in between goes back to
the system. Blocks are bounded, so what is kept is a few megabytes for each thread, whatever the models' size.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_KEPT = threading.local()


def scratch(purpose: str, shape: tuple[int, ...], dtype: DTypeLike = np.float64) -> NDArray[Any]:
    """Return an array of any content, in the same memory each time a thread asks for the same purpose.

    Nothing of it may be handed on: the next merge writes there.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    space: dict[str, NDArray[np.uint8]] = _KEPT.__dict__
    kept = space.get(purpose)
    if kept is None or len(kept) < size:
        kept = space[purpose] = np.empty(size, np.uint8)
    view: NDArray[Any] = kept[:size].view(dtype).reshape(shape)
    return view
