"""Calling a user's own function, ``python:FILE:FUNCTION``: whatever is wrong with it becomes one sentence."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from gossip.errors import UserError
from gossip.plugins import function_name, is_user_code, load, one_line

__all__ = ["call", "function_name", "is_user_code", "load", "one_line", "seeded_globals"]


def call(
    function: Callable[..., Any],
    *arguments: Any,
    name: str,
    key: str,
    seed: int,
    error: type[UserError],
    **keywords: Any,
) -> Any:
    """Call a user's function with every global generator seeded, and restored afterwards.

    Raises:
        UserError: `error`, for any exception of the function.
    """
    with seeded_globals(seed):
        try:
            return function(*arguments, **keywords)
        except (Exception, SystemExit) as failure:
            raise error(f"{key} = '{name}': the function fails: {one_line(failure)}") from failure


@contextmanager
def seeded_globals(seed: int) -> Iterator[None]:
    """Seed the global generators that torch's layers and users' code draw from; restore them after.

    Nothing of ours draws from them, but layers initialise themselves from torch's, and all peers must get
    the same.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
