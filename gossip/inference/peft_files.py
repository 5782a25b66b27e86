"""Adapters in PEFT's file format: a folder with adapter_config.json and adapter_model.safetensors.

``peft.PeftModel.from_pretrained(base, FOLDER)`` puts them beside the layers of the base. Written are, of each adapted
layer, A (r, n) and B (m, r), which for ``train = "R"`` is L·R; biases that have learnt; and tensors that have learnt as
a whole, as `modules_to_save`. The package peft is not needed for it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from gossip.errors import SettingError
from gossip.learning import adapters
from gossip.learning.adapters import Adapted

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
"""Of all names in such a file."""


def write(network: nn.Module, folder: Path, *, base: str | None) -> None:
    """Write the adapters of `network` into `folder`, which is made where it is not there.

    Args:
        network: with the learnt values; what has learnt requires a gradient.
        folder: its files of these names are replaced.
        base: where the base's weights are, for the file to say.

    Raises:
        SettingError: the network has no adapters, or some that PEFT cannot have.
    """
    owner = adapters.pretrained(network)
    network = network.get_submodule(owner)
    layers = adapters.adapted(network)
    if not layers:
        raise SettingError(
            '--format peft: the network has no adapters; it is for models of [model] adapter = { kind = "lora" }'
        )
    tensors: dict[str, Tensor] = {}
    for name, layer in layers.items():
        _refuse_unknown(name, layer)
        tensors |= {f"{PREFIX}{name}.{key}": value for key, value in _factors(layer).items()}
    biases, whole = _other(network, layers)
    tensors |= {f"{PREFIX}{name}.base_layer.bias": layers[name].bias.detach() for name in biases}  # type: ignore[union-attr]
    for name in whole:
        state = network.get_submodule(name).state_dict()
        tensors |= {f"{PREFIX}{name}.{key}": value for key, value in state.items()}
    folder.mkdir(parents=True, exist_ok=True)
    config = _config(network, layers, base, biased=bool(biases), whole=whole)
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    safetensors.torch.save_file(
        {name: tensor.contiguous().clone() for name, tensor in tensors.items()},
        folder / TENSORS,
        metadata={"format": "pt"},
    )


def _refuse_unknown(name: str, layer: Any) -> None:
    if not isinstance(layer, nn.modules.conv._ConvNd):
        return
    if layer.padding_mode != "zeros" or any(step != 1 for step in layer.dilation):
        raise SettingError(
            f"--format peft: '{name}' is a convolution with padding_mode = '{layer.padding_mode}' and dilation = "
            f"{layer.dilation}, which PEFT's adapters do not have; valid: zeros and 1"
        )


def _factors(layer: Any) -> dict[str, Tensor]:
    """Return A and B by PEFT's names."""
    first, *others = (factor.detach() for factor in layer.factors)
    second = others[-1] if len(others) == 1 else others[1] @ others[0]  # (m, r)
    if isinstance(layer, nn.Embedding):
        return {"lora_embedding_A": first, "lora_embedding_B": second}
    if isinstance(layer, nn.modules.conv._ConvNd):
        ones = [1] * len(layer.kernel_size)
        return {
            "lora_A.weight": first.view(len(first), *layer.weight.shape[1:]),
            "lora_B.weight": second.view(*second.shape, *ones),
        }
    return {"lora_A.weight": first, "lora_B.weight": second}


def _other(network: nn.Module, layers: dict[str, Adapted]) -> tuple[list[str], list[str]]:
    """Return the adapted layers whose bias has learnt, and the modules that have learnt as a whole."""
    biases, whole = [], []
    for name, parameter in network.named_parameters():
        owner, _, key = name.rpartition(".")
        if not parameter.requires_grad or key.startswith("lora_"):
            continue
        if owner not in layers:
            whole.append(owner)
        elif key == "bias":
            biases.append(owner)
        else:
            raise SettingError(
                f"--format peft: '{name}' has learnt beside its own adapter, which PEFT does not know"
            )
    return biases, sorted(set(whole))


def _config(
    network: nn.Module, layers: dict[str, Adapted], base: str | None, *, biased: bool, whole: list[str]
) -> dict[str, Any]:
    ranks = {name: len(layer.lora_A) for name, layer in layers.items()}
    rank = max(ranks.values())
    scale = next(iter(layers.values())).lora_scale
    others = {name: each for name, each in ranks.items() if each != rank}
    named = {name for name, _ in network.named_modules()}
    # PEFT takes a name in a list for the end of names, too.
    clear = not any(other.endswith(f".{name}") for name in layers for other in named)
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": scale * rank,
        "rank_pattern": others,
        "alpha_pattern": {name: scale * each for name, each in others.items()},
        "target_modules": sorted(layers) if clear else "|".join(map(re.escape, sorted(layers))),
        "modules_to_save": whole or None,
        "bias": "lora_only" if biased else "none",
        "lora_dropout": 0.0,
        "use_rslora": False,
        "use_dora": False,
        "fan_in_fan_out": any(adapters.is_transposed_linear(layer) for layer in layers.values()),
        "init_lora_weights": True,
    }
