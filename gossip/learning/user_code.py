"""A user's own function: ``python:FILE:FUNCTION``. Whatever is wrong with it becomes one sentence."""

from __future__ import annotations

import hashlib
import importlib.util
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gossip.errors import UserError

PREFIX = "python:"


def is_user_code(name: str) -> bool:
    """Return whether `name` is of the form ``python:FILE:FUNCTION``."""
    return name.startswith(PREFIX)


def function_name(name: str) -> str:
    """Return FUNCTION of ``python:FILE:FUNCTION``; FILE may lie elsewhere on every peer."""
    return name.rpartition(":")[2]


def load(name: str, *, key: str, folder: Path, error: type[UserError]) -> Callable[..., Any]:
    """Return the function that ``python:FILE:FUNCTION`` names; FILE is relative to `folder`.

    The file runs with all rights of the user who named it, as a script of their own does.

    Args:
        name: the setting's value.
        key: the setting's name, for the sentence.
        folder: the task file's folder.
        error: `SettingError` or `DataError`, by which setting it is.

    Raises:
        UserError: `error`, where the file or function is missing, or the file cannot be run.
    """
    file, _, function = name.removeprefix(PREFIX).rpartition(":")
    if not file or not function.isidentifier():
        raise error(f"{key} = '{name}': write python:FILE:FUNCTION, such as python:task.py:make")
    path = (folder / file).expanduser().resolve()
    if not path.is_file():
        raise error(f"{key} = '{name}': there is no file {path}")
    module_name = f"gossip_user_{hashlib.blake2b(str(path).encode(), digest_size=8).hexdigest()}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise error(f"{key} = '{name}': {path} is not a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # where dataclasses look their own module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as failure:
        del sys.modules[module_name]
        raise error(f"{key} = '{name}': {path} fails: {one_line(failure)}") from failure
    found = getattr(module, function, None)
    if not callable(found):
        raise error(f"{key} = '{name}': {path} has no function '{function}'")
    return found  # type: ignore[no-any-return]


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


def one_line(failure: BaseException) -> str:
    """Return an exception as one line: type and first line of its text."""
    text = str(failure).strip().splitlines()
    return f"{type(failure).__name__}: {text[0]}" if text else type(failure).__name__
