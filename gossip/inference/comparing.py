"""Models of several homes beside each other, or as one: their average."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from gossip.errors import SettingError
from gossip.inference.description import KEY
from gossip.inference.loaded import LoadedModel


def check_alike(models: Sequence[LoadedModel]) -> None:
    """Raise `SettingError` where models are not of one network and one objective."""
    first = models[0]
    for other in models[1:]:
        shapes = [{name: tuple(t.shape) for name, t in m.module.state_dict().items()} for m in (first, other)]
        if shapes[0] != shapes[1] or first.description["objective"] != other.description["objective"]:
            raise SettingError(f"{other.path}: is of another network or objective than {first.path}")


def distance(one: LoadedModel, other: LoadedModel) -> float:
    """Return ‖x - y‖₂ over all real numbers of two models of one network."""
    pairs = zip(one.module.state_dict().values(), other.module.state_dict().values(), strict=True)
    squares = sum(float((a.double() - b.double()).square().sum()) for a, b in pairs if a.is_floating_point())
    return float(squares**0.5)


def average(models: Sequence[LoadedModel]) -> dict[str, Tensor]:
    """Return the state dict of the plain mean; whole numbers (counts of batches) are the first's."""
    states = [model.module.state_dict() for model in models]
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor.clone()
        for name, tensor in states[0].items()
    }


def save_average(models: Sequence[LoadedModel], path: Path) -> None:
    """Write the average as a model file of its own, which `load` takes.

    Raises:
        SettingError: the path cannot be written.
    """
    first = models[0]
    came = dict(first.provenance)
    came["average_of"] = [f"{model.provenance['peer']}: {model.path}" for model in models]
    about = {KEY: json.dumps({**first.description, "provenance": came}, sort_keys=True)}
    try:
        safetensors.torch.save_file(
            {name: tensor.contiguous() for name, tensor in average(models).items()}, path, metadata=about
        )
    except OSError as failure:
        raise SettingError(f"--average {path}: cannot be written: {failure.strerror or failure}") from None
