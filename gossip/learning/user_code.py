"""Calling a user's own function, ``python:FILE:FUNCTION``: whatever is wrong with it becomes one sentence."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gossip import plugins
from gossip.errors import SettingError, UserError
from gossip.plugins import function_name, is_user_code, one_line

__all__ = ["call", "function_name", "is_user_code", "load", "one_line", "seeded_globals"]


def load(name: str, *, key: str, folder: Path, error: type[UserError] = SettingError) -> Callable[..., Any]:
    """Return what `plugins.load` does, for code that may use torch.

    What the file draws while it is imported is the same everywhere and in every run, whatever the run's seed.

    Raises:
        UserError: `error`, as `plugins.load`; or the file changes torch's default dtype.
    """
    with seeded_globals(0):
        found = plugins.load(name, key=key, folder=folder, error=error)
    _refuse_default_dtype(name, key, error)
    return found


def _refuse_default_dtype(name: str, key: str, error: type[UserError]) -> None:
    dtype = torch.get_default_dtype()
    if dtype is not torch.float32:
        torch.set_default_dtype(torch.float32)
        raise error(
            f"{key} = '{name}': the code sets torch's default dtype to {str(dtype).removeprefix('torch.')}, and models "
            "are float32 here; take torch.set_default_dtype away, and cast inside the network where that matters"
        )


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
            returned = function(*arguments, **keywords)
        except (Exception, SystemExit) as failure:
            raise error(f"{key} = '{name}': the function fails: {one_line(failure)}") from failure
        _refuse_default_dtype(name, key, error)
        return returned


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
