"""What a long computation in this process keeps quiet meanwhile: Python's collector, and a library's asides."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def slow_operators_untold() -> Iterator[None]:
    """Keep to ourselves what torch asks its own developers for: vmap of an operator that it computes one by one.

    How peers are trained is chosen with that included (`methods.choose`); a user cannot do anything about it.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="There is a performance drop because we have not yet implemented"
        )
        yield


@contextmanager
def quiet_collector(*, aside: bool = True) -> Iterator[None]:
    """Collect garbage less often, and do not look through what is there already, which lives as long as the run.

    At 10,000 peers the default thresholds cost more than the protocols. Without `aside` what is there is looked
    through, and what a caller has put aside (`gc.freeze`) stays where it is.
    """
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 100)
    if aside:
        gc.collect()  # graphs are cycles, and what is put aside would stay for good
        gc.freeze()
    try:
        yield
    finally:
        if aside:
            gc.unfreeze()
        gc.set_threshold(*before)
