"""A user's file and the modules beside it: each folder's are its own, and what they say is what the file says."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gossip import plugins, user_files
from gossip.errors import SettingError

Written = Callable[..., Path]


@pytest.fixture(autouse=True)
def nothing_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = set(sys.modules)
    monkeypatch.setattr(user_files, "_folders", {})
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def written(tmp_path: Path) -> Written:
    def write(folder: str, **files: str) -> Path:
        for name, text in files.items():
            path = tmp_path / folder / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        importlib.invalidate_caches()
        return tmp_path / folder / "own.py"

    return write


def told(path: Path) -> Any:
    """What `tell` of a user's file says now."""
    return plugins.load(f"python:{path}:tell", key="kind", folder=Path())()


HEAD = "from helper import WORD\ndef tell(): return WORD\n"
LATE = "def tell():\n    from helper import WORD\n    return WORD\n"


def test_each_folder_has_its_own_modules(written: Written) -> None:
    a = written("a", own=HEAD, helper="from pack.deep import WORD", pack__deep="WORD = 'a'")
    b = written("b", own=HEAD, helper="from pack.deep import WORD", pack__deep="WORD = 'b'")
    path = list(sys.path)
    assert [told(each) for each in (a, b, a, b)] == ["a", "b", "a", "b"]
    assert sys.path == path
    assert user_files.content(a) != user_files.content(b)


def test_files_of_one_folder_share_its_modules_until_these_change(written: Written) -> None:
    one = written("a", own="import helper\ndef tell(): return helper\n", helper="WORD = 1")
    written("a", other="import helper\ndef tell(): return helper\n")
    assert told(one) is told(one.with_name("other.py"))
    before = user_files.content(one)
    written("a", helper="WORD = 10")
    assert told(one).WORD == 10
    assert user_files.content(one) != before


def test_what_a_function_imports_when_it_is_called_is_found(written: Written) -> None:
    path = written("a", own=LATE, helper="WORD = 'a'")
    assert told(path) == "a"
    written("a", helper="WORD = 'another'")
    assert told(path) == "another"


@pytest.mark.parametrize("sources", [(LATE, HEAD), (HEAD, LATE)])
def test_what_might_be_another_folders_is_refused(written: Written, sources: tuple[str, str]) -> None:
    a, b = (
        written("a", own=sources[0], helper="WORD = 'a'"),
        written("b", own=sources[1], helper="WORD = 'b'"),
    )
    assert told(a) == "a"
    with pytest.raises(SettingError, match=r"imports .helper. inside of a function"):
        told(b)


def test_another_folders_modules_are_not_found(written: Written) -> None:
    told(written("a", own=HEAD, helper="WORD = 'a'"))
    with pytest.raises(SettingError, match="No module named 'helper'"):
        told(written("b", own=HEAD))


def test_an_installed_package_stands_before_a_file_of_its_name(written: Written) -> None:
    path = written(
        "a",
        own="import json, numpy\ndef tell(): return numpy.__name__, hasattr(numpy, 'array')\n",
        numpy="raise SystemExit",
        json="",
    )
    assert told(path) == ("numpy", True)
    assert user_files.files(path) == [path]


def test_a_file_alone_is_named_by_its_bytes_and_others_by_all_that_they_import(written: Written) -> None:
    path = written("a", own="import first\n", unused="")
    assert user_files.content(path) == hashlib.blake2b(b"import first\n", digest_size=8).hexdigest()
    seen = {user_files.content(path)}
    for files in (
        {"first": "def f():\n    import second"},
        {"second__part": "WORD = 1"},
        {"second__part": "WORD = 2"},
        {"second__more": "WORD = 2"},
    ):
        written("a", **files)
        seen.add(user_files.content(path))
    assert len(seen) == 5
    before = user_files.content(path)
    written("a", unused="WORD = 3")
    assert user_files.content(path) == before
    assert user_files.content(path.with_name("missing.py")) == ""
    written("a", own="not python")
    assert user_files.files(path) == [path]
