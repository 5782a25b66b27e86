"""`[data] statistics = "FILE"`: what `gossip-node statistics` wrote, laid under what the settings say themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gossip.config.layers import Layer, merge_layers, origin, read_file
from gossip.errors import SettingError, nearest

KEYS = ("class_names", "classes", "statistics", "categories")
"""Of `[data]`, that such a file may hold."""

WHERE = ("data", "statistics")


def file_of(layers: Sequence[Layer]) -> str | None:
    """Return the file that `[data] statistics` names; None where it is a table, or not there."""
    found = _data(layers).get("statistics")
    return found if isinstance(found, str) else None


def without_file(layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers without the file's name, and what only holds with it: for those who are to make the file."""
    if file_of(layers) is None:
        return list(layers)
    last = Layer({"data": {"standardise": "none"}}, "gossip-node statistics")
    return [*_unnamed(layers), *([last] if _data(layers).get("standardise") == "given" else [])]


def with_file(layers: Sequence[Layer], folder: Path) -> list[Layer]:
    """Return the layers with the file's content in the place of its name, where they name one.

    What the layers say themselves of names and classes stays; numbers are standardised, unless they say otherwise.

    Args:
        layers: of the settings.
        folder: the name is relative to it.

    Raises:
        SettingError: there is no such file, or it holds something else.
    """
    name = file_of(layers)
    if name is None:
        return list(layers)
    where = f"{origin(layers, WHERE)}: [data] statistics"
    path = folder / Path(name).expanduser()
    if not path.exists():
        raise SettingError(
            f"{where} = '{name}': there is no file {path}; `gossip-node statistics` has the peers make it"
        )
    tables = read_file(path).tables
    for key in tables:
        if key not in KEYS:
            raise SettingError(f"{path}: unknown key '{key}' of agreed statistics; {nearest(key, KEYS)}")
    data = _data(layers)
    taken: dict[str, Any] = {
        key: value
        for key, value in tables.items()
        if key != "categories" and (key not in data or key == "statistics")
    }
    if "classes" in taken and "class_names" in data:
        del taken["classes"]
    if "statistics" in taken and "standardise" not in data:
        taken["standardise"] = "given"
    own = data.get("categories", {})
    words = tables.get("categories", {})
    if isinstance(own, Mapping) and isinstance(words, Mapping) and words:
        taken["categories"] = {column: each for column, each in words.items() if column not in own}
    return [*_unnamed(layers), Layer({"data": taken}, str(path))]


def _data(layers: Sequence[Layer]) -> Mapping[str, Any]:
    found = merge_layers(layers).get("data", {})
    return found if isinstance(found, Mapping) else {}


def _unnamed(layers: Sequence[Layer]) -> list[Layer]:
    cleared = []
    for layer in layers:
        data = layer.tables.get("data")
        if isinstance(data, Mapping) and "statistics" in data:
            data = {key: value for key, value in data.items() if key != "statistics"}
            layer = replace(layer, tables={**layer.tables, "data": data})
        cleared.append(layer)
    return cleared
