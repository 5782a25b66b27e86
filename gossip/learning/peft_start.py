"""`[model.adapter] start`: factors to begin with, from a folder in PEFT's file format, as other programs write it too.

Of each adapted layer the folder has A (r, n) and B (m, r). With ``train = "B"`` its A is the frozen one; R between two
factors of our own cannot begin at what others drew. What else the folder holds, biases and whole layers, is put in its
place by its name. The names may be those of a part of the network, which a transformers model within it is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from gossip.errors import SettingError
from gossip.learning import adapters, mapped_base, user_code
from gossip.learning.adapter_settings import AdapterSettings

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
"""Of all names in such a file."""
KEY = "[model.adapter] start"
UNKNOWN = ("use_dora", "use_rslora", "lora_bias")
"""Of the folder's settings: what would make of the same tensors something else."""


def begin(network: nn.Module, settings: AdapterSettings, folder: Path) -> None:
    """Let the adapters of `network` begin with those of the folder.

    Raises:
        SettingError: there is no such folder, it cannot be read, or its adapters are of other layers or another rank.
    """
    config, tensors = _read(folder)
    layers = adapters.adapted(network)
    part = adapters.pretrained(network)
    owner = f"{part}." if part else ""
    taken: set[str] = set()
    with torch.no_grad():
        for name, layer in layers.items():
            key = PREFIX + name.removeprefix(owner)
            first, second = _factors_of(layer, tensors, key, taken, folder)
            scale = _scale(config, name.removeprefix(owner), len(first))
            values = {"lora_A": first, "lora_B": second * (scale / settings.scale)}
            for factor, value in values.items():
                _copy(getattr(layer, factor), value, f"{name}.{factor}", folder)
        named = dict(network.named_parameters())
        for key in sorted(tensors.keys() - taken):
            name = owner + key.removeprefix(PREFIX).replace(".base_layer.", ".")
            if name not in named:
                raise SettingError(
                    f"{KEY}: {folder / TENSORS}: '{key}' is of no adapted layer of the network, and no tensor of it"
                )
            _copy(named[name], tensors[key], name, folder)


def hash_of(folder: Path) -> str:
    """Return 32 hexadecimal digits that name the content of the folder's two files."""
    from gossip.learning.parts import hash_of

    return hash_of(folder / CONFIG)[:16] + hash_of(folder / TENSORS)[:16]


def _read(folder: Path) -> tuple[Mapping[str, Any], dict[str, Tensor]]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = safetensors.torch.load_file(folder / TENSORS)
    except (OSError, ValueError, safetensors.SafetensorError) as failure:
        raise SettingError(
            f"{KEY}: {folder} is no readable folder with {CONFIG} and {TENSORS}: {user_code.one_line(failure)}"
        ) from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise SettingError(f"{KEY}: {folder / CONFIG}: is not of peft_type = 'LORA'")
    for key in UNKNOWN:
        if config.get(key):
            raise SettingError(f"{KEY}: {folder / CONFIG}: {key} = true is not known here")
    return config, tensors


def _factors_of(
    layer: Any, tensors: Mapping[str, Tensor], key: str, taken: set[str], folder: Path
) -> tuple[Tensor, Tensor]:
    table = isinstance(layer, nn.Embedding)
    names = [f"{key}.lora_embedding_{each}" if table else f"{key}.lora_{each}.weight" for each in "AB"]
    for name in names:
        if name not in tensors:
            raise SettingError(
                f"{KEY}: {folder / TENSORS} lacks '{name}'; [model.adapter] targets names the layers that have adapters"
            )
    taken.update(names)
    first, second = (tensors[name].flatten(1).float() for name in names)
    return first, second


def _scale(config: Mapping[str, Any], name: str, rank: int) -> float:
    patterns = config.get("alpha_pattern")
    alpha = config.get("lora_alpha")
    if isinstance(patterns, Mapping):
        alpha = patterns.get(name, alpha)
    if not isinstance(alpha, int | float) or not math.isfinite(alpha) or not alpha:
        raise SettingError(f"{KEY}: lora_alpha = {alpha!r} of '{name}' must be a number other than 0")
    return alpha / rank


def _copy(tensor: Tensor, value: Tensor, name: str, folder: Path) -> None:
    if tensor.shape != value.shape:
        raise SettingError(
            f"{KEY}: {folder / TENSORS}: '{name}' has shape {tuple(value.shape)}; the network's is "
            f"{tuple(tensor.shape)}"
        )
    if not mapped_base.is_finite(value):
        raise SettingError(f"{KEY}: {folder / TENSORS}: '{name}' holds what is not finite")
    tensor.copy_(value)
