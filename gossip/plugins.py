"""Code that is not ours: ``python:FILE:NAME`` in a setting, and installed packages' entry points. Free of torch.

A file runs with all rights of the user who names it, as a script of their own does. Peers never send code: that all
of a run use the same file, each its own copy, is agreed by a hash of its content and of the modules beside it.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gossip import user_files
from gossip.errors import SettingError, UserError

PREFIX = "python:"


def is_user_code(name: object) -> bool:
    """Return whether `name` is of the form ``python:FILE:NAME``."""
    return isinstance(name, str) and name.startswith(PREFIX)


def function_name(name: str) -> str:
    """Return NAME of ``python:FILE:NAME``; FILE may lie elsewhere on every peer."""
    return name.rpartition(":")[2]


def short_name(kind: str) -> str:
    """Return what a checkpoint calls a choice: a user's own by NAME, for files are moved."""
    return function_name(kind) if is_user_code(kind) else kind


def load(name: str, *, key: str, folder: Path, error: type[UserError] = SettingError) -> Callable[..., Any]:
    """Return the function or class that ``python:FILE:NAME`` names; FILE is relative to `folder`.

    It may import modules that lie beside it. A file that has been loaded is not run again.

    Args:
        name: the setting's value.
        key: the setting's name, for the sentence.
        folder: the task file's folder.
        error: `SettingError` or `DataError`, by which setting it is.

    Raises:
        UserError: `error`, where file or function is missing, or the file cannot be run.
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
        with user_files.beside(path):
            spec.loader.exec_module(module)
    except user_files.Clash as clash:
        raise error(f"{key} = '{name}': {clash}") from None
    except (Exception, SystemExit) as failure:
        del sys.modules[module_name]
        raise error(f"{key} = '{name}': {path} fails: {one_line(failure)}") from failure
    found = getattr(module, function, None)
    if not callable(found):
        raise error(f"{key} = '{name}': {path} has no function '{function}'")
    return found  # type: ignore[no-any-return]


@functools.cache
def _loaded(name: str, key: str, content: str) -> Any:
    return load(name, key=key, folder=Path())


def thing(name: str, *, key: str) -> Any:
    """Return what an absolute ``python:FILE:NAME`` names: one and the same as long as the file's content is.

    Raises:
        SettingError: as `load`.
    """
    path = _path_of(name)
    if path is None or not path.is_file():
        return load(name, key=key, folder=Path())  # which says what is wrong
    return _loaded(name, key, content_of(name))


def content_of(name: str) -> str:
    """Return 16 hex digits that name what the file of an absolute ``python:FILE:NAME`` says, with what it imports."""
    path = _path_of(name)
    return "" if path is None else user_files.content(path)


def identified(value: Any) -> Any:
    """Return settings with every user's file replaced by its content: what peers can compare.

    A file lies elsewhere on each machine; with which NAME, and what it says, is the same.
    """
    if isinstance(value, Mapping):
        return {key: identified(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [identified(each) for each in value]
    if is_user_code(value):
        return f"{PREFIX}{content_of(value)}:{function_name(value)}"
    return value


def at(folder: Path, value: Any) -> Any:
    """Return settings in which every ``kind = "python:FILE:NAME"`` is absolute, from `folder` on; in `kinds`, too."""
    if isinstance(value, Mapping):
        return {
            key: absolute(each, folder) if key in ("kind", "kinds") else at(folder, each)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [at(folder, each) for each in value]
    return value


def absolute(name: Any, folder: Path) -> Any:
    """Return a ``python:FILE:NAME``, or several, with FILE from `folder` on; what is none as `at` does."""
    if isinstance(name, (list, tuple)):
        return [absolute(each, folder) for each in name]
    if not is_user_code(name):
        return at(folder, name)
    file, _, function = name.removeprefix(PREFIX).rpartition(":")
    return f"{PREFIX}{(folder / file).expanduser().resolve()}:{function}" if file else name


def _path_of(name: str) -> Path | None:
    file, _, _ = name.removeprefix(PREFIX).rpartition(":")
    return Path(file).expanduser().resolve() if file else None


@functools.cache
def installed(group: str) -> dict[str, importlib.metadata.EntryPoint]:
    """Return what installed packages bring for a seam, by name."""
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=group)}


def load_installed(group: str, name: str, *, seam: str) -> Any:
    """Return what the entry point `name` of `group` names.

    Raises:
        SettingError: its package cannot be imported, or has no such thing.
    """
    entry = installed(group)[name]
    try:
        return entry.load()
    except (Exception, SystemExit) as failure:
        raise SettingError(
            f"{seam} '{name}' of an installed package ({entry.value}) fails: {one_line(failure)}"
        ) from failure


def one_line(failure: BaseException) -> str:
    """Return an exception as one line: type and first line of its text."""
    text = str(failure).strip().splitlines()
    return f"{type(failure).__name__}: {text[0]}" if text else type(failure).__name__


class Wrong(Exception):
    """What another's class returns is not what it should be; the text is a clause."""


def is_ours(what: object) -> bool:
    """Return whether the class of `what`, or `what` itself where it is one, is part of the project."""
    made = what if isinstance(what, type) else type(what)
    return made.__module__.partition(".")[0] in ("gossip", "scenarios")


@contextmanager
def blamed(what: object, where: str) -> Iterator[None]:
    """Turn what `what`, a class or one of it, raises into one sentence, if it is not ours.

    Raises:
        SettingError: the class of `what` is a user's or a package's, and fails.
    """
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as failure:
        if is_ours(what):
            raise
        raise SettingError(_sentence(what, where, failure)) from failure


def _sentence(what: object, where: str, failure: BaseException) -> str:
    made = what if isinstance(what, type) else type(what)
    file = getattr(sys.modules.get(made.__module__), "__file__", None)
    clause = str(failure) if isinstance(failure, Wrong) else f"fails: {one_line(failure)}"
    return f"{where} {made.__name__} {clause}" + (f" (in {file})" if file else "")
