"""What a node kept to be tested on: its test samples, and its own ones where it has both, read again as it read them.

A home says in `source.json` where its node's data lay and how they were read, and where its network's own files are. It
stays in the home: a model file, which is handed out, names no data and no folder.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from gossip import plugins
from gossip.errors import DataError, SettingError
from gossip.inference.description import files_of, hash_of
from gossip.learning.data.mapped import part
from gossip.learning.settings import DataSettings, LocalSettings
from gossip.learning.sources import DIGITS
from gossip.learning.task import Task
from gossip.learning.user_code import is_user_code
from gossip.storage.run_record import SOURCE

if TYPE_CHECKING:
    from gossip.inference.loaded import LoadedModel

logger = logging.getLogger("gossip.inference")


class Tested(NamedTuple):
    """Samples (n, *input_shape) and targets (n, …) to test on."""

    x: Any
    y: Any


class Kept(NamedTuple):
    """What was kept, and where from."""

    source: str
    test: Tested
    own: Tested | None


def said_of(task: Task, *, position: int, peers: int) -> dict[str, Any]:
    """Return what `source.json` says: how the node at `position` of so many `peers` read its data, and where the files
    of its network are; absolute paths."""
    data = task.data_settings.model_dump(mode="json", exclude_none=True)
    for key in ("source", "test"):
        if key in data:
            data[key] = _absolute(data[key], task.folder)
    if is_user_code(data["partition"]["kind"]):
        data["partition"]["kind"] = plugins.absolute(data["partition"]["kind"], task.folder)
    return {"data": data, "position": position, "peers": peers, "model": files_of(task)}


def is_of(model: LoadedModel, source: str) -> bool:
    """Return whether the home of `model` learnt from `source`, as it is written on a command line."""
    try:
        return bool(_said(model.path.parent)["data"]["source"] == _absolute(source, Path.cwd()))
    except (SettingError, KeyError, TypeError):
        return False


def read(model: LoadedModel) -> Kept:
    """Return what the node of the model's home kept to be tested on.

    Raises:
        SettingError: the home does not say where its data are.
        DataError: they cannot be read any more.
    """
    home = model.path.parent
    said = _said(home)
    try:
        settings = DataSettings.model_validate(said["data"], strict=False)
        position, peers = int(said["position"]), int(said["peers"])
    except (ValidationError, KeyError, TypeError, ValueError):
        raise SettingError(f"{home / SOURCE}: is damaged; say --data") from None
    task = Task(
        data=settings,
        model=model.settings,
        local=LocalSettings(),
        seed=model.description["seed"],
        folder=Path(),
        objective=model.objective.settings,
    )
    data = task.dataset
    if tuple(data.input_shape) != model.input_shape:
        raise DataError(
            f"{settings.source}: a sample has shape {tuple(data.input_shape)} by now; the model takes "
            f"{model.input_shape}"
        )
    places = task.own_test_places(position, peers)
    own = None if not len(places) else Tested(part(data.x_train, places)[:], data.y_train[places])
    shard = task.shard(position, peers)
    learnt = model.provenance.get("data")
    if learnt is not None and hash_of(shard.x, shard.y) != learnt:
        logger.warning(
            "%s has changed since the model was learnt; it may have learnt from what it is tested on",
            settings.source,
        )
    return Kept(settings.source, Tested(data.x_test[:], data.y_test), own)


def _said(home: Path) -> Mapping[str, Any]:
    path = home / SOURCE
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise SettingError(f"{home}: does not say which data its node learnt from; say --data") from None
    except ValueError:
        raise SettingError(f"{path}: is damaged; say --data") from None
    if not isinstance(said, dict):
        raise SettingError(f"{path}: is damaged; say --data")
    return said


def _absolute(source: str, folder: Path) -> str:
    if source == DIGITS:
        return source
    if is_user_code(source):
        return str(plugins.absolute(source, folder))
    return str((folder / Path(source).expanduser()).resolve())
