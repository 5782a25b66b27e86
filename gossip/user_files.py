"""A user's file and the modules that lie beside it and that it imports. Free of torch.

Each folder's modules are its own: two folders may both have a `helper.py`, and each file finds the one beside it. What
a file says is what all of these say: peers compare that, and a sweep does runs again whose files have changed.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

OURS = frozenset({"gossip", "scenarios", "topologies"})


class Clash(Exception):
    """Two folders have a module of one name, and one of them is imported when it may be the other's turn."""


class _Imports(NamedTuple):
    """Of one file: top-level names."""

    all: frozenset[str]
    late: frozenset[str]
    """Those inside of functions, which are looked up when these are called."""


class _Kept(NamedTuple):
    module: ModuleType
    content: str


class _Folder:
    """What was loaded from one folder."""

    def __init__(self) -> None:
        self.paths: set[Path] = set()
        self.modules: dict[str, _Kept] = {}
        self.late: dict[str, str] = {}
        """What modules said when they were looked for, when no file was being loaded."""

    def note_late(self) -> None:
        """Keep what was imported late, too."""
        for name in self.late.keys() & sys.modules.keys():
            self.modules[name] = _Kept(sys.modules[name], self.late[name])
        self.late.clear()


_folders: dict[Path, _Folder] = {}
"""The one that was loaded from last stands last."""
_loading: list[Path] = []
"""Folders of the files that are being loaded, one within the other."""


class _Finder:
    """Finds modules beside users' files: of the file that is being loaded; when functions are called, of any.

    These folders are not in `sys.path`, which processes that are started inherit, and would find one's for another's.
    """

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return where a module is that no installed package has."""
        if path is not None:
            return None
        for folder in _loading[-1:] or [*_folders][::-1]:
            found = PathFinder.find_spec(name, [str(folder)], target)
            if found is not None:
                _folders[folder].late[name] = _said_by(found.origin if found.has_location else None)
                return found
        return None


def content(path: Path) -> str:
    """Return 16 hex digits that name what a file and the modules beside it that it imports say; "" of no file."""
    if not path.is_file():
        return ""
    state = hashlib.blake2b(_read(path), digest_size=8)
    for file in files(path)[1:]:
        name, said = file.relative_to(path.parent).as_posix().encode(), _read(file)
        for each in (name, said):
            state.update(len(each).to_bytes(8, "big") + each)
    return state.hexdigest()


def files(path: Path) -> list[Path]:
    """Return a file, and behind it the modules beside it that it imports, directly or by one another, by name."""
    found, todo = {path}, [path]
    while todo:
        for name in _imports(_read(todo.pop())).all:
            more = set(_beside(path.parent, name)) - found
            found |= more
            todo += more
    return [path, *sorted(found - {path})]


def _read(path: Path) -> bytes:
    """Return what a file says; nothing of one that cannot be read, which is said when it is to be run."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _beside(folder: Path, name: str) -> list[Path]:
    """Return the files of a module or package of `folder` that an import of `name` finds there, if it does."""
    package, module = folder / name, folder / f"{name}.py"
    if (package / "__init__.py").is_file() or (package.is_dir() and not module.is_file()):
        there = sorted(package.rglob("*.py"))
    else:
        there = [module] if module.is_file() else []
    return there if there and not _elsewhere(folder, name) else []


def _elsewhere(folder: Path, name: str) -> bool:
    """Return whether Python has a module of this name without the folders of users' files, which come last."""
    if name in OURS or name in sys.stdlib_module_names:
        return True
    found = PathFinder.find_spec(name, [each for each in sys.path if Path(each).resolve() != folder])
    return found is not None and found.loader is not None


@functools.lru_cache(256)
def _imports(source: bytes) -> _Imports:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return _Imports(frozenset(), frozenset())
    late = frozenset(
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for name in _names(node)
    )
    return _Imports(frozenset(_names(tree)), late)


def _names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


@contextmanager
def beside(path: Path) -> Iterator[None]:
    """Have imports find the modules beside a file, and none that lie beside another user's file.

    Raises:
        Clash: one that a function imports when it is called might then be another folder's.
    """
    folder = path.parent
    own = _folders.setdefault(folder, _Folder())
    own.paths.add(path)
    others = [other for where, other in _folders.items() if other is not own]
    for each in _folders.values():
        each.note_late()
    for other in others:
        for name, kept in other.modules.items():
            if sys.modules.get(name) is kept.module:
                del sys.modules[name]
    for name, kept in list(own.modules.items()):
        if _said_by(_file_of(kept.module)) == kept.content:
            sys.modules[name] = kept.module
        else:  # it has been changed since
            del own.modules[name]
            sys.modules.pop(name, None)
    before = set(sys.modules)
    if _Finder not in sys.meta_path:
        sys.meta_path.append(_Finder)  # last: a file must not stand in the way of an installed package
    _folders[folder] = _folders.pop(folder)
    _loading.append(folder)
    try:
        yield
    finally:
        _loading.pop()
        own.late.clear()
        for name in set(sys.modules) - before:
            module = sys.modules[name]
            if name.partition(".")[0] not in before and _lies_in(folder, module):
                own.modules[name] = _Kept(module, _said_by(_file_of(module)))
        for other in others:
            for name, kept in other.modules.items():
                sys.modules.setdefault(name, kept.module)
    for where, other in _folders.items():
        if other is not own:
            _refuse_clash(folder, where)
            _refuse_clash(where, folder)


def _refuse_clash(folder: Path, other: Path) -> None:
    """Refuse what functions of a folder's files import by a name that the other folder's files import, too."""
    theirs = {name for _, imports in _imports_in(other) for name in imports.all if _beside(other, name)}
    for file, imports in _imports_in(folder) if theirs else ():
        for name in sorted(imports.late & theirs):
            if _beside(folder, name):
                raise Clash(
                    f"{file} imports '{name}' inside of a function, and there are two of that name, in {folder} and "
                    f"in {other}; import it at the head of the file, or give one of them another name"
                )


def _imports_in(folder: Path) -> Iterator[tuple[Path, _Imports]]:
    for path in sorted(_folders[folder].paths):
        for file in files(path) if path.is_file() else ():
            yield file, _imports(_read(file))


def _lies_in(folder: Path, module: ModuleType) -> bool:
    file = _file_of(module)
    places = [file] if file else list(getattr(module, "__path__", ()))
    return any(Path(os.path.realpath(place)).is_relative_to(folder) for place in places)


def _file_of(module: ModuleType) -> str | None:
    return getattr(module, "__file__", None)


def _said_by(file: str | None) -> str:
    return hashlib.blake2b(_read(Path(file)) if file else b"", digest_size=8).hexdigest()
