"""From files and command lines to settings; every mistake becomes one sentence that says where it stands."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from gossip.config.presets import DEFAULT_ALGORITHM, preset
from gossip.config.task import TaskSettings
from gossip.errors import SettingError, nearest
from gossip.settings import Settings, first_complaint

FILE_BYTES_MAX = 1 << 20
"""A settings file is written by hand; a megabyte is a wrong path."""

EXCLUSIVE: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("local", "epochs"): ("local", "steps"),
    ("local", "steps"): ("local", "epochs"),
}
"""Keys that replace each other: writing one takes the other away from the layers below."""

COMMON_KEYS: dict[tuple[str, ...], frozenset[str]] = {}
"""Section -> keys that all its kinds have, which stay when a later layer names another kind."""

S = TypeVar("S", bound=TaskSettings)


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


def read_file(path: Path) -> Layer:
    """Read a TOML file."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise SettingError(f"{path}: larger than {FILE_BYTES_MAX} bytes, this is no settings file")
        text = path.read_text(encoding="utf-8")
        return Layer(tomllib.loads(text), str(path), text)
    except OSError as error:
        raise SettingError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise SettingError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingError(f"{path}: not valid TOML: {error}") from None


def parse_override(argument: str) -> Layer:
    """Turn ``SECTION.KEY=VALUE`` into a layer; VALUE is TOML, or else a plain string."""
    name, sign, value = argument.partition("=")
    parts = [part.strip() for part in name.split(".")]
    if not sign or not all(parts):
        raise SettingError(f"--set {argument}: must look like SECTION.KEY=VALUE, e.g. local.lr=0.05")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    if isinstance(parsed, float) and not math.isfinite(parsed):
        # No setting may be nan or inf as a number; as words they are kinds of attacks.
        parsed = value.strip()
    for part in reversed(parts):
        parsed = {part: parsed}
    return Layer(parsed, f"--set {argument}")


def merge_layers(layers: Sequence[Layer]) -> dict[str, Any]:
    """Lay later tables over earlier ones, key by key."""
    merged: dict[str, Any] = {}
    for layer in layers:
        _lay_over(merged, layer.tables, ())
    return merged


def _lay_over(base: dict[str, Any], over: Mapping[str, Any], path: tuple[str, ...]) -> None:
    # Another kind has other keys: what was said for the old one would only be refused.
    if "kind" in over and "kind" in base and over["kind"] != base["kind"]:
        common = COMMON_KEYS.get(path, frozenset())
        for key in [key for key in base if key not in common]:
            del base[key]
    for key, value in over.items():
        rival = EXCLUSIVE.get((*path, key))
        if rival is not None and rival[-1] not in over:
            base.pop(rival[-1], None)
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _lay_over(base[key], value, (*path, key))
        elif isinstance(value, Mapping):
            base[key] = {}
            _lay_over(base[key], value, (*path, key))
        else:
            base[key] = value


def load_task(
    path: Path | None = None,
    *,
    arguments: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
) -> TaskSettings:
    """Load the settings of a peer.

    Args:
        path: a task file, or None for the defaults.
        arguments: tables from named command-line options; over the file, under `overrides`.
        overrides: ``SECTION.KEY=VALUE`` strings; the last word.

    Raises:
        SettingError: with one sentence naming file, line, key, value and what would be valid.
    """
    layers = [] if path is None else [read_file(path)]
    layers.append(Layer(arguments or {}, "command line"))
    layers.extend(parse_override(argument) for argument in overrides)
    return resolve(layers, TaskSettings)


def resolve(layers: Sequence[Layer], model: type[S]) -> S:
    """Put the algorithm's preset under the layers and validate the whole, section by section."""
    tables = merge_layers(layers)
    _refuse_unknown_sections(tables, layers, model)
    algorithm = tables.get("algorithm", DEFAULT_ALGORITHM)
    try:
        sections = preset(algorithm if isinstance(algorithm, str) else repr(algorithm))
    except SettingError as error:
        raise SettingError(f"{origin(layers, ('algorithm',))}: {error}") from None
    tables = merge_layers([Layer(sections, f"algorithm {algorithm}"), *layers])
    tables["algorithm"] = algorithm
    values = {name: _section(name, value, layers, model) for name, value in tables.items()}
    try:
        settings = model.model_validate(values)
        settings.written_at({name: origin(layers, (name,)) for name in merge_layers(layers)})
        return settings
    except ValidationError as error:
        at, sentence = first_complaint(error, model)
        section, colon, rest = sentence.partition(": ")
        if colon and section in tables:  # a seam's section, whose own settings class complained
            sentence = f"[{section}] {rest}"
        raise SettingError(f"{origin(layers, at)}: {sentence}") from None


def _refuse_unknown_sections(tables: Mapping[str, Any], layers: Sequence[Layer], model: type[S]) -> None:
    for name in tables:
        if name not in model.model_fields:
            raise SettingError(
                f"{origin(layers, (name,))}: unknown section '{name}'; {nearest(name, model.model_fields)}"
            )


def _section(name: str, value: Any, layers: Sequence[Layer], model: type[S]) -> Any:
    kind = model.model_fields[name].annotation
    if not (isinstance(kind, type) and issubclass(kind, Settings)):
        return value
    if not isinstance(value, Mapping):
        raise SettingError(f"{origin(layers, (name,))}: '{name}' must be a section: [{name}]")
    try:
        # A seam's field is annotated with the base of all choices; the whole model's validator finds the class.
        return value if model.model_fields[name].metadata else kind.model_validate(value)
    except ValidationError as error:
        at, sentence = first_complaint(error, kind)
        raise SettingError(f"{origin(layers, (name, *at))}: [{name}] {sentence}") from None


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
