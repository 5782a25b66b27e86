"""Layers of settings: which later table, file or option says the last word on a key, and where a key stands."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from gossip import plugins
from gossip.errors import SettingError
from gossip.learning.sources import DIGITS, IMAGE_KEYS, TABLE_KEYS, TABLES
from gossip.text_files import readable

FILE_BYTES_MAX = 1 << 20
"""A settings file is written by hand; a megabyte is a wrong path."""

EXCLUSIVE: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("local", "epochs"): ("steps", "deadline_s", "steps_min", "steps_max"),
    ("local", "steps"): ("epochs", "deadline_s", "steps_min", "steps_max"),
    ("local", "deadline_s"): ("epochs", "steps"),
    ("data", "columns"): ("drop",),
    ("data", "drop"): ("columns",),
    ("data", "test"): ("test_fraction",),
    ("data", "test_fraction"): ("test",),
}
"""Keys that replace others of their section: writing one takes the others away from the layers below."""

COMMON_KEYS: dict[tuple[str, ...], frozenset[str]] = {}
"""Section -> keys that all its kinds have, which stay when a later layer names another kind."""


BY_COLUMN = (("data", "categories"), ("data", "statistics"))
"""Tables whose keys are a user's columns; one may be called `kind`."""


def _of_users(name: object) -> bool:
    return isinstance(name, str) and name.startswith("python:")


def _of_folder(source: object) -> bool:
    """Return whether a source may be a folder: only the disk tells what is in it."""
    return (
        isinstance(source, str)
        and source != DIGITS
        and not _of_users(source)
        and not source.lower().endswith((".npz", *TABLES))
    )


def _of_arrays_or_folder(source: object) -> bool:
    return (
        _of_folder(source)
        or _of_users(source)
        or (isinstance(source, str) and source.lower().endswith(".npz"))
    )


def _of_table_or_folder(source: object) -> bool:
    return _of_folder(source) or (isinstance(source, str) and source.lower().endswith(TABLES))


CHOSEN: Mapping[tuple[str, str], Mapping[str, Callable[[object], bool]]] = {
    ("model", "name"): {"hidden": lambda name: name == "mlp", "arguments": _of_users},
    ("model", "extractor"): {
        "features": lambda extractor: extractor == "random-features",
        "extractor_hash": lambda extractor: False,
    },
    ("model", "start"): {"start_hash": lambda start: False},
    ("local", "schedule"): {
        "lr_decay": lambda schedule: schedule == "exponential",
        "lr_final": lambda schedule: schedule != "exponential",
    },
    ("data", "source"): {
        "arguments": _of_users,
        "test_fraction": lambda source: source != DIGITS,
        **dict.fromkeys(("test", *TABLE_KEYS), _of_table_or_folder),
        **dict.fromkeys(IMAGE_KEYS, _of_folder),
        "mapped": _of_arrays_or_folder,
    },
}
"""Keys that choose without being called `kind`, and the keys beside them that only some of their values take: those
go when a later layer chooses another value that does not take them."""


class _Unset:
    """Stands for what ``--set SECTION.KEY=`` says."""

    def __repr__(self) -> str:
        return "nothing"


UNSET: Final = _Unset()
"""A value that takes a key away from the layers below: its default holds again."""

UNWRITTEN: Mapping[tuple[str, ...], object] = {("local", "schedule"): "exponential"}
"""What a key of `CHOSEN` chooses where no layer has it, and others beside it are written for that."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """What a later layer's choice took away from the layers below it."""

    by: str
    """The layer that chose, e.g. ``--set model.name=cnn``."""
    path: tuple[str, ...]
    value: object

    def __str__(self) -> str:
        return (
            f"{self.by} drops {'.'.join(self.path)} = {self.value!r}, which belongs to what was chosen before"
        )


@dataclass(frozen=True, slots=True)
class Layer:
    """One source of settings: plain tables, and how to say where a key of it stands."""

    tables: Mapping[str, Any]
    name: str
    text: str = ""

    def where(self, path: Sequence[str]) -> str:
        """Return e.g. ``task.toml:7`` or ``--set local.lr=x``."""
        line = line_of(self.text, path) if self.text else None
        return self.name if line is None else f"{self.name}:{line}"


ALSO_WRITTEN: Mapping[tuple[str, str], tuple[str, str]] = {
    ("protocol", key): ("local", key) for key in ("deadline_s", "steps_min", "steps_max")
}
"""Keys that may stand in another section, too: how long a peer trains is as much the round's affair as the update's."""


def at_home(layer: Layer) -> Layer:
    """Return a layer whose keys stand in their own sections.

    Raises:
        SettingError: one of them stands in both.
    """
    tables = dict(layer.tables)
    for (section, key), (home, name) in ALSO_WRITTEN.items():
        found, there = tables.get(section), tables.get(home, {})
        if isinstance(found, Mapping) and key in found and isinstance(there, Mapping):
            if name in there:
                raise SettingError(
                    f"{layer.where((section, key))}: {section}.{key} is {home}.{name}, which is written, too; write "
                    "one of them"
                )
            tables[section] = {other: value for other, value in found.items() if other != key}
            tables[home] = {name: found[key], **there}
            if not tables[section]:
                del tables[section]
    return replace(layer, tables=tables)


def read_file(path: Path) -> Layer:
    """Read a TOML file."""
    try:
        with readable(path):
            if path.stat().st_size > FILE_BYTES_MAX:
                raise SettingError(f"{path}: larger than {FILE_BYTES_MAX} bytes, this is no settings file")
            text = path.read_text(encoding="utf-8")
            return Layer(plugins.at(path.resolve().parent, tomllib.loads(text)), str(path), text)
    except tomllib.TOMLDecodeError as error:
        raise SettingError(f"{path}: not valid TOML: {error}{_of_bare_text(text, str(error))}") from None
    except RecursionError:
        raise SettingError(f"{path}: not valid TOML: brackets within brackets, hundreds deep") from None


def _of_bare_text(text: str, error: str) -> str:
    """Say what is meant where a line of a file, as `error` names it, has a text without its quotes."""
    at = re.search(r"at line (\d+)", error)
    line = text.splitlines()[int(at.group(1)) - 1] if at else ""
    bare = re.fullmatch(r"\s*([\w.-]+)\s*=\s*([A-Za-z][\w./:-]*)\s*(#.*)?", line)
    return f'; text stands in quotes: {bare.group(1)} = "{bare.group(2)}"' if bare else ""


def parse_override(argument: str) -> Layer:
    """Turn ``SECTION.KEY=VALUE`` into a layer; VALUE is TOML, or else a plain string; without one the key is unset."""
    name, sign, value = argument.partition("=")
    parts = [part.strip() for part in name.split(".")]
    if not sign or not all(parts):
        raise SettingError(f"--set {argument}: must look like SECTION.KEY=VALUE, e.g. local.lr=0.05")
    parsed: Any
    try:
        parsed = tomllib.loads(f"value = {value}")["value"] if value.strip() else UNSET
    except (tomllib.TOMLDecodeError, RecursionError):
        parsed = value.strip()
    if isinstance(parsed, float) and not math.isfinite(parsed):
        # No setting may be nan or inf as a number; as words they are kinds of attacks.
        parsed = value.strip()
    for part in reversed(parts):
        parsed = {part: parsed}
    return Layer(plugins.at(Path(), parsed), f"--set {argument}")


def merge_layers(layers: Sequence[Layer], dropped: list[Dropped] | None = None) -> dict[str, Any]:
    """Lay later tables over earlier ones, key by key; note in `dropped` what a choice has taken away."""
    _refuse_rivals(layers)
    merged: dict[str, Any] = {}
    for layer in layers:
        _lay_over(merged, layer.tables, (), layer.name, [] if dropped is None else dropped)
    return merged


def _refuse_rivals(layers: Sequence[Layer]) -> None:
    """Two options of one command line that replace each other are a mistake, whichever is last."""
    options = [layer for layer in layers if layer.name.startswith("--set ")]
    for path, rivals in EXCLUSIVE.items():
        ours = [layer.name for layer in options if _value_at(layer.tables, path) not in (None, UNSET)]
        for rival in rivals:
            theirs = [
                layer.name
                for layer in options
                if _value_at(layer.tables, (*path[:-1], rival)) not in (None, UNSET)
            ]
            if ours and theirs:
                raise SettingError(f"{theirs[-1]}: excludes {ours[-1]}; give one of them")


def _value_at(tables: object, path: Sequence[str]) -> object:
    for key in path:
        tables = tables.get(key) if isinstance(tables, Mapping) else None
    return tables


def _lay_over(
    base: dict[str, Any], over: Mapping[str, Any], path: tuple[str, ...], name: str, dropped: list[Dropped]
) -> None:
    for key in _outdated(base, over, path):
        dropped.append(Dropped(name, (*path, key), base.pop(key)))
    for key, value in over.items():
        for rival in EXCLUSIVE.get((*path, key), ()):
            if rival not in over and value is not UNSET:
                base.pop(rival, None)
        if value is UNSET:
            base.pop(key, None)
        elif isinstance(value, Mapping):
            if not isinstance(base.get(key), dict):
                base[key] = {}
            _lay_over(base[key], value, (*path, key), name, dropped)
        else:
            base[key] = value


def _outdated(base: Mapping[str, Any], over: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    """Return the keys of `base` that only belong to a choice that `over` replaces: they would only be refused."""

    def is_new(key: str) -> bool:
        before = base.get(key, UNWRITTEN.get((*path, key), UNSET))
        return key in over and before is not UNSET and over[key] != before

    if is_new("kind") and path not in BY_COLUMN:
        common = COMMON_KEYS.get(path, frozenset())
        return [key for key in base if key not in common and key != "kind"]
    return [
        key
        for (section, chooser), keys in CHOSEN.items()
        if path == (section,) and is_new(chooser)
        for key, takes in keys.items()
        if key in base and key not in over and not takes(over[chooser])
    ]


def origin(layers: Sequence[Layer], path: Sequence[str]) -> str:
    """Say which layer a key comes from: the last one that holds it, or as much of its path as any does."""
    for depth in range(len(path), 0, -1):
        for layer in reversed(layers):
            if _holds(layer.tables, path[:depth]):
                return layer.where(path[:depth])
    return "settings"


def _holds(tables: object, path: Sequence[str]) -> bool:
    for key in path:
        if isinstance(tables, list) and key.isdecimal() and int(key) < len(tables):
            tables = tables[int(key)]
        elif isinstance(tables, Mapping) and key in tables:
            tables = tables[key]
        else:
            return False
    return True


def line_of(text: str, path: Sequence[str]) -> int | None:
    """Return the line (from 1) of a TOML text where a key, or the table around it, is written.

    The tables of an array ``[[a.b]]`` are counted: the key `c` of the second is at ("a", "b", "1", "c").
    """
    best: tuple[int, int] | None = None
    table: list[str] = []
    counts: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*(\[\[?)\s*([^\]]+?)\s*\]", line)
        if header:
            table = here = _key_parts(header.group(2))
            if header.group(1) == "[[":
                count = counts.get(tuple(here), 0)
                counts[tuple(here)] = count + 1
                table = [*here, str(count)]
                here = table if len(path) > len(here) else here
        else:
            key = re.match(r"\s*([A-Za-z0-9_.\-\"' ]+?)\s*=", line)
            if not key:
                continue
            here = [*table, *_key_parts(key.group(1))]
        depth = len(here)
        if depth <= len(path) and here == list(path[:depth]) and (best is None or depth > best[0]):
            best = (depth, number)
    return None if best is None else best[1]


def _key_parts(dotted: str) -> list[str]:
    return [part.strip().strip("\"'") for part in dotted.split(".")]
