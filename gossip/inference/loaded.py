"""A finished model, ready to be asked: the network with what was learnt, samples prepared as in training."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from gossip import plugins
from gossip.errors import DataError, SettingError
from gossip.inference.description import FILES, KEY, VERSION, file_name, is_file
from gossip.learning import adapters, models, parts, user_code
from gossip.learning import extractor as extractors
from gossip.learning.data.arrays import UNIT
from gossip.learning.data.preparation import Preparation
from gossip.learning.extractor import Extracted
from gossip.learning.objectives.base import Objective
from gossip.learning.objectives.of_others import made
from gossip.learning.objectives.settings import OBJECTIVES
from gossip.learning.settings import ModelSettings
from gossip.storage.models import MODEL
from gossip.storage.run_record import SOURCE

logger = logging.getLogger("gossip.inference")

BATCH = 1024
"""Samples per forward pass."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LoadedModel:
    """What a peer has learnt, as `load` returns it."""

    module: nn.Module
    """In evaluation mode, with the learnt values; a plain module, to be used in any other way."""
    objective: Objective
    preparation: Preparation
    """What is done to samples before the network sees them."""
    input_shape: tuple[int, ...]
    """Of a prepared sample."""
    outputs: int
    """Classes, labels, columns or tokens."""
    whole_numbers: bool
    """Whether the network takes whole numbers (tokens)."""
    target: str | None
    """The column of a table that was learnt."""
    provenance: Mapping[str, Any]
    """Where it comes from: peer, peers, rounds, a hash of the data, versions."""
    description: Mapping[str, Any]
    """All that the file says of itself, plain."""
    settings: ModelSettings
    """`[model]`, with its files where they are here."""
    path: Path

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes by number; () where they have none."""
        return self.preparation.class_names

    def prepared(self, x: Any) -> Tensor:
        """Return samples (n, …), arrays or tensors as the loader gave them, as the network takes them.

        Bytes are divided by 255 and planes get an axis of channels where that was done in training. Rows of tables and
        image files: `gossip.inference.samples`.

        Raises:
            DataError: another shape, or no numbers.
        """
        array = x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)
        if array.dtype.kind not in "buif":
            raise DataError(f"samples hold {array.dtype}; numbers are needed")
        scaled = array.dtype == np.uint8 and self.preparation.divided_by != 1
        tensor = torch.from_numpy(
            np.array(array, dtype=np.float32 if scaled or array.dtype.kind == "f" else np.int64)
        )
        if scaled:
            tensor = tensor / UNIT
        if self.preparation.channel_axis and tensor.dim() == len(self.input_shape):
            tensor = tensor[:, None]
        if tuple(tensor.shape[1:]) != self.input_shape:
            raise DataError(
                f"a sample has shape {tuple(tensor.shape[1:])}; the model takes {self.input_shape}, with the number of "
                "samples before it"
            )
        return tensor if self.whole_numbers and not tensor.is_floating_point() else tensor.to(torch.float32)

    def logits(self, x: Any) -> Tensor:
        """Return the network's outputs (n, …) for samples (n, …).

        Raises:
            DataError: the samples are none for the network.
        """
        tensor = self.prepared(x)
        with torch.no_grad():
            return torch.cat([self.module(part) for part in torch.split(tensor, BATCH)])

    def predict(self, x: Any) -> Any:
        """Return what the model says of samples (n, …): class names where there are any, else an array (n, …).

        Raises:
            DataError: the samples are none for the network.
        """
        found = self.objective.predicted(self.logits(x)).numpy()
        if self.class_names and self.objective.classifies:
            return [self.class_names[number] for number in found.tolist()]
        return found

    def evaluate(self, x: Any, y: Any) -> Mapping[str, Any]:
        """Return all metrics of the objective on samples (n, …) and targets (n, …).

        Raises:
            DataError: samples or targets are none for the model.
        """
        targets = self.targets(y)
        outputs = self.logits(x)
        if len(outputs) != len(targets):
            raise DataError(f"there are {len(outputs)} samples, but {len(targets)} targets")
        wrong = self.objective.check_outputs(outputs, targets, self.outputs)
        if wrong is not None:
            raise DataError(f"the targets do not fit the model, which {wrong}")
        if self.objective.classifies and int(targets.max()) >= self.outputs:
            raise DataError(f"there is a class {int(targets.max())}; the model knows 0 … {self.outputs - 1}")
        return self.objective.metrics(outputs, targets)

    def targets(self, y: Any) -> Tensor:
        """Return targets as the objective takes them.

        Raises:
            DataError: they are none.
        """
        array = y.detach().cpu().numpy() if isinstance(y, Tensor) else np.asarray(y)
        return torch.from_numpy(self.objective.targets(array, source="the targets", key="y"))


def load(where: Path | str, *, network: Path | str | None = None) -> LoadedModel:
    """Return the finished model of a home, or of a model.safetensors.

    A network of one's own is made by the function that made it in training, from the file where it was then, as the
    home says, or from `network`, a copy of that file. What is not named is not run: whoever hands on a model may hand
    on a file with it.

    Raises:
        SettingError: there is none, it says nothing of itself, or its network cannot be built.
    """
    path = Path(where).expanduser()
    path = path / MODEL if path.is_dir() else path
    description, state = _read(path)
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise SettingError(f"{path}: '{name}' is not finite: the model has diverged, and says nothing")
    model = _from_file(_model_settings(description, path), path, network)
    name = model.name
    if user_code.is_user_code(name) and plugins.content_of(name) not in ("", description["content"]):
        logger.warning("%s has changed since the model was learnt", name.removeprefix(plugins.PREFIX))
    shape = tuple(description["input_shape"])
    base = _base_of(model, path)
    module = _built(model, shape, description, base)
    try:
        _fill(module, state, set() if base is None else parts.names_in(base))
    except RuntimeError as failure:
        raise SettingError(
            f"{path}: the network that [model] name = '{name}' makes is another one: {user_code.one_line(failure)}"
        ) from None
    choice = OBJECTIVES.validate(description["objective"])
    return LoadedModel(
        module=module.eval(),
        objective=made(choice),
        preparation=Preparation.of(description["preparation"]),
        input_shape=shape,
        outputs=description["classes"],
        whole_numbers=description["whole_numbers"],
        target=description["target"],
        provenance=description["provenance"],
        description=description,
        settings=model,
        path=path,
    )


def _read(path: Path) -> tuple[Mapping[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise SettingError(f"{path}: there is no finished model; a node writes {MODEL} when it is done")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            said = (file.metadata() or {}).get(KEY)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (safetensors.SafetensorError, OSError) as failure:
        raise SettingError(f"{path}: no readable model: {user_code.one_line(failure)}") from None
    if said is None:
        raise SettingError(
            f"{path}: says nothing of the network that it is for, as models of older versions; "
            "safetensors.torch.load_file reads its tensors"
        )
    try:
        description = json.loads(said)
        version = description["version"]
    except (ValueError, KeyError, TypeError):
        raise SettingError(f"{path}: what it says of itself is damaged") from None
    if version != VERSION:
        raise SettingError(f"{path}: is of version {version}; this is version {VERSION}")
    return description, state


def _model_settings(description: Mapping[str, Any], path: Path) -> ModelSettings:
    said, there = dict(description["model"]), _files_of_home(path.parent)
    for key in FILES:
        value = said.get(key)
        if value is None or not is_file(value) or file_name(value) != value:
            continue  # ours, or a path as older versions wrote it
        known = there.get(key)
        if isinstance(known, str) and file_name(known) == value:
            said[key] = known
        elif key != "name":  # numbers, held against a hash
            said[key] = str(path.parent.resolve() / value)
    try:
        return ModelSettings.model_validate(said, strict=False)
    except ValidationError as failure:
        raise SettingError(f"{path}: no such network: {failure.errors()[0]['msg']}") from None


def _files_of_home(home: Path) -> Mapping[str, Any]:
    """Return where a home says that the files of its network are; {} where it says nothing."""
    try:
        said = json.loads((home / SOURCE).read_text(encoding="utf-8"))["model"]
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    return said if isinstance(said, dict) else {}


def _from_file(model: ModelSettings, path: Path, network: Path | str | None) -> ModelSettings:
    """Return the settings with the file that makes the network."""
    name = model.name
    if not user_code.is_user_code(name):
        if network is not None:
            raise SettingError(f"--network {network}: the network of {path} is '{name}', which no file makes")
        return model
    function = plugins.function_name(name)
    said = name.removeprefix(plugins.PREFIX).removesuffix(f":{function}")
    file = Path(said) if network is None else Path(network).expanduser()
    # What a model says is taken as it was written where it was learnt: no name alone, no ~, no /proc/self/cwd, all of
    # which would find a file that was handed on beside it.
    if not file.is_file() or (network is None and file != file.resolve()):
        raise SettingError(
            f"{path}: there is no file {file}, whose function '{function}' makes its network; copy it from where the "
            f"model was learnt, and name the copy: --network {file.name}"
        )
    return model.model_copy(update={"name": f"{plugins.PREFIX}{file.resolve()}:{function}"})


def _base_of(model: ModelSettings, path: Path) -> Path | None:
    """Return the file that holds the base of adapters, which a model's file leaves out.

    Raises:
        SettingError: it is not there, or another one.
    """
    if model.adapter is None or model.start is None:
        return None
    base = Path(model.start)
    if not base.is_file():
        raise SettingError(
            f"{path}: holds adapters, and there is no file {base} with their base; put it there"
        )
    if parts.hash_of(base) != model.start_hash:
        raise SettingError(f"{path}: holds adapters, and {base} is not the base that they were learnt beside")
    return base


def _fill(module: nn.Module, state: Mapping[str, Tensor], base: set[str]) -> None:
    """Put `state` into `module`, which has what it lacks of the base; raise `RuntimeError` where it lacks more."""
    missing, unexpected = module.load_state_dict(state, strict=False)
    absent = [name for name in missing if name.removeprefix("head.") not in base and name not in base]
    if absent or unexpected:
        raise RuntimeError(
            f"missing {', '.join(absent) or 'none'}; unknown {', '.join(unexpected) or 'none'}"
        )


def _built(
    settings: ModelSettings, shape: tuple[int, ...], description: Mapping[str, Any], base: Path | None
) -> nn.Module:
    seed, classes = description["seed"], description["classes"]

    def network(taken: tuple[int, ...]) -> nn.Module:
        made = parts.begun(
            lambda: models.build(settings, taken, classes, seed=seed, folder=Path()), base, mapped=True
        )
        if settings.adapter is not None:
            adapters.adapt(made, settings.adapter, seed=seed)
            parts.roles(settings, made)
        return made

    if settings.extractor is None:
        return network(shape)
    extractor = extractors.find(settings, shape, seed=seed, folder=Path()).module.eval()
    with torch.no_grad():
        features = extractor(torch.zeros(1, *shape)).flatten(1).shape[1:]
    # Training has flattened features once for all (`Task.features`).
    extractor.register_forward_hook(lambda _, given, made: made.flatten(1))
    return Extracted(extractor, network(tuple(features)))
