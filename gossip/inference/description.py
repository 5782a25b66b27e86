"""What a model file says of itself beside its tensors: its network, what was done to samples, where it comes from.

Plain JSON in the file's metadata, so that a file can be used where nothing else of the run is. A network of the user's
own is named by its file's name and by a hash of the content: where that is another, it is said. In which folder it was
is nobody's business who is handed the model; the home says so, which stays where it is.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gossip import plugins
from gossip.learning import user_code
from gossip.learning.data.mapped import Mapped, Samples

if TYPE_CHECKING:
    from gossip.learning.task import Task

KEY = "description"
"""In the metadata of model.safetensors."""
VERSION = 1
PACKAGES = ("gossip-node", "torch", "numpy")

FILES = ("name", "extractor", "start")
"""Keys of `[model]` that may name files."""

HASHED = 256
"""Mapped samples whose content enters a hash: a node would else read all of its files for one line of a card."""


def described(task: Task, *, provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of a model file of `task`; `provenance` are plain values: peers, rounds, …"""
    model = task.model_settings.model_dump(mode="json", exclude_none=True)
    own = user_code.is_user_code(model["name"])
    content = plugins.content_of(plugins.absolute(model["name"], task.folder)) if own else None
    model.get("adapter", {}).pop("start", None)  # what it began with is of no use any more
    model |= {key: file_name(model[key]) for key in files_of(task)}
    if "start" in model:
        model["start_hash"] = task.start_hash
    if task.extractor is not None and is_file(model["extractor"]):
        model["extractor_hash"] = task.extractor.digest
    objective = task.objective_settings.model_dump(mode="json", exclude_none=True)
    said = {
        "version": VERSION,
        "model": model,
        "content": content,
        "objective": objective,
        "seed": task.seed,
        "classes": task.dataset.classes,
        "input_shape": list(task.dataset.input_shape),
        "whole_numbers": task.takes_whole_numbers,
        "preparation": task.dataset.preparation.as_dict(),
        "target": task.data_settings.target,
        "provenance": {**provenance, "versions": _versions()},
    }
    return {KEY: json.dumps(said, sort_keys=True)}


def files_of(task: Task) -> dict[str, str]:
    """Return which keys of `[model]` name files, and where these are: absolute paths, of code with its function."""
    settings = task.model_settings
    said = {key: getattr(settings, key) for key in FILES}
    return {
        key: str(plugins.absolute(value, task.folder))
        if user_code.is_user_code(value)
        else str((task.folder / value).expanduser().resolve())
        for key, value in said.items()
        if value is not None and is_file(value)
    }


def is_file(value: str) -> bool:
    """Return whether a value of `FILES` names a file, and no network of ours."""
    return user_code.is_user_code(value) or value.endswith(".safetensors")


def file_name(value: str) -> str:
    """Return the same without folders: FILE, or python:FILE:FUNCTION."""
    if not user_code.is_user_code(value):
        return Path(value).name
    file, _, function = value.removeprefix(plugins.PREFIX).rpartition(":")
    return f"{plugins.PREFIX}{Path(file).name}:{function}" if file else value


def hash_of(*parts: Samples) -> str:
    """Return 32 hexadecimal digits that name the content of tensors.

    Of mapped samples: their shape, and the content of `HASHED` of them, evenly spread; it is another hash than that of
    the same samples in memory.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(str((part.dtype, tuple(part.shape))).encode())
        tensor = part[:: -(-len(part) // HASHED)] if isinstance(part, Mapped) else part
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
