"""Folders of parquet files, and those that Hugging Face's `datasets.save_to_disk` writes; read with pyarrow alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gossip.errors import DataError
from gossip.learning.data import extras, frames, keys, tables
from gossip.learning.data import images as pictures
from gossip.learning.data.found import Found
from gossip.learning.data.preparation import Images, Preparation
from gossip.learning.settings import DataSettings
from gossip.learning.sources import IMAGE_KEYS, TABLE_KEYS

LABEL = "label"
"""The usual name of the column of labels."""

SPLIT = re.compile(r"^(train|test|validation|valid|val|dev)(?=[-_.]|$)")
"""How a file's or a folder's name begins that says what it is for."""

Tables = dict[str, Any]
"""Split -> arrow table."""


def is_saved(folder: Path) -> bool:
    """Return whether `datasets.save_to_disk` wrote the folder."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def parquet_files(folder: Path) -> list[Path]:
    """Return the parquet files of a folder, sorted, those in its sub-folders too."""
    found = sorted(folder.rglob("*.parquet"))
    return [
        path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def read_parquet(settings: DataSettings, folder: Path, *, seed: int, classifies: bool = True) -> Found:
    """Return the samples of a folder of parquet files; their names say what they are for: train-…, test-….

    Raises:
        DataError: one sentence naming the file.
    """
    files: dict[str, list[Path]] = {}
    for path in parquet_files(folder):
        files.setdefault(_split_of(path, folder), []).append(path)
    return _of_splits(
        {
            split: frames.joined([frames.read(path) for path in paths], folder)
            for split, paths in files.items()
        },
        settings,
        seed=seed,
        classifies=classifies,
    )


def _split_of(path: Path, folder: Path) -> str:
    for part in reversed(path.relative_to(folder).parts):
        found = SPLIT.match(part)
        if found is not None:
            return found[1]
    return "train"


def read_saved(settings: DataSettings, folder: Path, *, seed: int, classifies: bool = True) -> Found:
    """Return the samples of a folder that `save_to_disk` wrote: of one dataset, or of several by their splits.

    Raises:
        DataError: one sentence naming the file.
    """
    listed = folder / "dataset_dict.json"
    if not listed.is_file():
        return _of_splits({"train": _saved(folder)}, settings, seed=seed, classifies=classifies)
    splits = _json(listed).get("splits")
    if not isinstance(splits, list) or not all(isinstance(split, str) for split in splits):
        raise DataError(f"{listed}: no list of splits")
    return _of_splits(
        {split: _saved(folder / split) for split in splits}, settings, seed=seed, classifies=classifies
    )


def _saved(folder: Path) -> Any:
    state = _json(folder / "state.json")
    if state.get("_indices_files"):
        raise DataError(f"{folder} holds a selection of its rows; flatten_indices() before save_to_disk()")
    entries = state.get("_data_files") or []
    files = [str(entry.get("filename")) for entry in entries if isinstance(entry, Mapping)]
    if not files or not all(Path(name).name == name for name in files):
        raise DataError(f"{folder / 'state.json'}: no list of data files")
    return frames.joined([frames.read(folder / name) for name in files], folder)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as failure:
        raise DataError(f"{path} is not readable: {failure}") from failure
    if not isinstance(found, dict):
        raise DataError(f"{path} is not as save_to_disk writes it")
    return found


def _of_splits(splits: Tables, settings: DataSettings, *, seed: int, classifies: bool = True) -> Found:
    source = settings.source
    if not splits:
        raise DataError(f"{source}: there is no file of data in it")
    if "train" not in splits:
        raise DataError(f"{source}: there is no split called train, only {', '.join(splits)}")
    if "test" in splits:
        keys.refuse_test_keys(settings)
    unused = [split for split in splits if split not in ("train", "test")]
    doubts: list[str] = []
    if unused:
        doubts.append(f"{source}: beside train and test there is {', '.join(unused)}, which is not used")
    train, test = splits["train"], splits.get("test")
    column = _image_column(train)
    if column is None:
        keys.refuse_others(settings, "test_fraction", *TABLE_KEYS)
        names = class_names(train, settings.target or LABEL)
        found = tables.of_tables(
            train, test, settings, seed=seed, classifies=classifies, target=LABEL, names=names
        )
    else:
        keys.refuse_others(settings, "test_fraction", "target", *IMAGE_KEYS)
        found = _of_images(column, [each for each in (train, test) if each is not None], settings)
    if found.class_names is not None and settings.class_names is None and settings.partition.kind == "own":
        doubts.append(pictures.told_order(settings, found.class_names))
    return replace(found, doubts=(*found.doubts, *doubts))


def _image_column(table: Any) -> str | None:
    """Return the column of encoded images: bytes, or a structure {bytes, path}."""
    types = extras.arrow("a table").types
    for field in table.schema:
        sort = field.type
        if types.is_struct(sort) and sort.get_field_index("bytes") >= 0:
            return str(field.name)
        if types.is_binary(sort) or types.is_large_binary(sort):
            return str(field.name)
    return None


def class_names(table: Any, column: str) -> tuple[str, ...] | None:
    """Return the names that the table's own description gives the numbers of a column (`ClassLabel`), or None."""
    try:
        about = json.loads((table.schema.metadata or {})[b"huggingface"])
        feature = about["info"]["features"][column]
        names = feature["names"] if feature["_type"] == "ClassLabel" else None
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(map(str, names)) if isinstance(names, list) and names else None


def _of_images(column: str, parts: Sequence[Any], settings: DataSettings) -> Found:
    source = settings.source
    target = settings.target or LABEL
    frames.known(parts[0], [target], key="[data] target", source=source)
    names = class_names(parts[0], target)
    found = []
    labels = []
    for number, part in enumerate(parts):
        if part.column(target).null_count:
            raise DataError(
                f"{source}: column '{target}', the target, has missing values; leave out such images"
            )
        y = tables.target_values(part, target, source)
        labels.append(y if names is None else tables.named(y, names, source, target))
        found += _pictures(part, column, f"{source} ({('train', 'test')[number]})")
    stack, size = pictures.read_pictures(found, settings)
    count = len(labels[0])
    unused = [name for name in parts[0].column_names if name not in (column, target)]
    doubts = (f"{source}: of images, only '{column}' and '{target}' are used, not {', '.join(unused)}",)
    return Found(
        x_train=stack[:count],
        y_train=np.asarray(labels[0]),
        x_test=stack[count:] if len(parts) > 1 else None,
        y_test=np.asarray(labels[1]) if len(parts) > 1 else None,
        target=target,
        class_names=names,
        preparation=Preparation(images=Images(size=size, mode=settings.image_mode or pictures.MODE)),
        doubts=doubts if unused else (),
    )


def _pictures(table: Any, column: str, source: str) -> list[pictures.Picture]:
    found = []
    for row, value in enumerate(table.column(column).to_pylist(), start=1):
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise DataError(f"{source}: column '{column}' has no bytes of an image in row {row}")
        found.append(pictures.Picture(f"{source}: column '{column}', row {row},", content))
    return found
