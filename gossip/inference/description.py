"""What a model file says of itself beside its tensors: how to build the network, what to do to samples, where it is from.

Plain JSON in the file's metadata, so that a file can be used where nothing else of the run is. Settings that name a
user's file keep its path as it was here, and a hash of its content: where the file is another one, that is said.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from gossip import plugins

if TYPE_CHECKING:
    from torch import Tensor

    from gossip.learning.task import Task

KEY = "description"
VERSION = 1


def describe(task: Task, *, provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of a model file of `task`."""
    return {
        KEY: json.dumps(
            {
                "version": VERSION,
                "model": plugins.at(task.folder, _named(task)),
                "content": plugins.content_of(_named(task)["kind"]) if task.users_network else None,
                "objective": task.objective_settings.model_dump(mode="json", exclude_none=True),
                "seed": task.seed,
                "classes": task.dataset.classes,
                "input_shape": list(task.dataset.input_shape),
                "whole_numbers": task.takes_whole_numbers,
                "preparation": task.dataset.preparation.as_dict(),
                "provenance": {**provenance, "versions": _versions()},
            },
            sort_keys=True,
        )
    }


def hash_of(*tensors: Tensor) -> str:
    """Return 32 hex digits of tensors' content."""
    digest = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        digest.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def _named(task: Task) -> dict[str, Any]:
    """Return `[model]` with its name under the key by which paths are made absolute."""
    settings = task.model_settings.model_dump(mode="json", exclude_none=True)
    name = settings.pop("name")
    return {"kind": plugins.absolute(name, task.folder), **settings}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("gossip-learning", "torch", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
