"""Frozen layers before the network: what they make of the samples is all that the peers' models ever see.

Every peer has the same extractor, so only the layers behind it are learned and sent. It never changes either, so each
sample goes through it once (`Task.features`), not once per step.

An extractor is a supply-chain root: what is hidden in it no merge rule can see. So it has a digest, over its layers and
every bit of its weights, which a task can pin (`[model] extractor_hash`) and which is part of every model's `space_id`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import safetensors
import safetensors.torch
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from gossip import seeding
from gossip.errors import SettingError
from gossip.learning import models, user_code
from gossip.learning.settings import ModelSettings
from gossip.parameters import Role

RANDOM_FEATURES = "random-features"
FEATURES_DEFAULT = 400
FILE_BYTES_MAX = 4 * 2**30
_KEY = "extractor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Extractor:
    """Frozen layers and what they are."""

    module: nn.Module
    """In evaluation mode; no parameter requires a gradient."""
    description: Mapping[str, Any]
    """How to build the layers again: name, input shape, widths."""
    digest: str
    """Of description and weights: 32 hexadecimal digits."""


def find(settings: ModelSettings, input_shape: tuple[int, ...], *, seed: int, folder: Path) -> Extractor:
    """Return the extractor that `[model]` names; it must fit the samples and the pinned hash.

    Raises:
        SettingError: no such extractor, a file that holds none, other samples, or another hash.
    """
    name = settings.extractor
    assert name is not None
    if name == RANDOM_FEATURES:
        extractor = random_features(input_shape, settings.features or FEATURES_DEFAULT, seed=seed)
    elif name.endswith(".safetensors"):
        extractor = load(folder / Path(name).expanduser())
    else:
        raise SettingError(
            f"[model] extractor = '{name}' is unknown; valid: {RANDOM_FEATURES}, a path that ends in .safetensors"
        )
    wanted = tuple(extractor.description["input_shape"])
    if wanted != input_shape:
        raise SettingError(
            f"[model] extractor = '{name}' takes samples of shape {wanted}, but these have shape {input_shape}"
        )
    if settings.extractor_hash not in (None, extractor.digest):
        raise SettingError(
            f"[model] extractor = '{name}' has the hash {extractor.digest}, but the task pins extractor_hash = "
            f"'{settings.extractor_hash}'"
        )
    return extractor


def random_features(input_shape: tuple[int, ...], features: int, *, seed: int) -> Extractor:
    """Return φ(x) = √(2/d) · relu(A x + b) with d features, A and b normal: drawn from `seed`, never trained.

    The kernel of such features is that of an infinitely wide layer as d grows (Rahimi and Recht, NeurIPS 2007; for the
    ReLU Cho and Saul, NeurIPS 2009), so a linear layer on them learns what no linear layer on the samples can.
    """
    inputs = math.prod(input_shape)
    layer = nn.Linear(inputs, features)
    generator = torch.Generator().manual_seed(seeding.integer_seed(seed, "random features"))
    scale = math.sqrt(2 / features)
    with torch.no_grad():
        layer.weight.normal_(0, scale, generator=generator)
        layer.bias.normal_(0, scale, generator=generator)
    description = {"name": RANDOM_FEATURES, "input_shape": list(input_shape), "features": features}
    return frozen(nn.Sequential(nn.Flatten(), layer, nn.ReLU()), description)


def without_output_layer(module: nn.Module) -> nn.Module:
    """Return all layers of a network but its last, linear one.

    Raises:
        SettingError: it does not end in a linear layer, or nothing is left that could have been trained.
    """
    children = list(module) if isinstance(module, nn.Sequential) else []
    if len(children) < 2 or not isinstance(children[-1], nn.Linear):
        raise SettingError("an extractor is made of a network of layers in a row that ends in a linear one")
    layers = nn.Sequential(*children[:-1])
    if not any(True for _ in layers.parameters()):
        raise SettingError(
            "an extractor is made of a network with more than one layer; valid: mlp, cnn and so on"
        )
    return layers


def frozen(module: nn.Module, description: Mapping[str, Any]) -> Extractor:
    """Freeze `module`: no gradients, and evaluation mode, in which statistics stay as they are."""
    module.requires_grad_(False).eval()
    return Extractor(module=module, description=description, digest=_digest(module, description))


def save(extractor: Extractor) -> bytes:
    """Return the safetensors file of an extractor."""
    tensors = {name: tensor.contiguous() for name, tensor in extractor.module.state_dict().items()}
    return safetensors.torch.save(tensors, metadata={_KEY: _described(extractor.description)})


def load(path: Path) -> Extractor:
    """Read an extractor's file.

    Raises:
        SettingError: one sentence with the path.
    """
    if not path.is_file():
        raise SettingError(f"[model] extractor: there is no file {path}")
    if path.stat().st_size > FILE_BYTES_MAX:
        raise SettingError(f"{path}: larger than {FILE_BYTES_MAX} bytes, this is no extractor")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            described = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (safetensors.SafetensorError, OSError) as failure:
        raise SettingError(
            f"{path} is not a readable .safetensors file: {user_code.one_line(failure)}"
        ) from None
    if described is None:
        raise SettingError(f"{path} holds no extractor; `gossip-scenario pretrain` makes one")
    try:
        description = json.loads(described)
        module = build(description)
        module.load_state_dict(tensors)
    except (ValueError, KeyError, TypeError, RuntimeError, SettingError) as failure:
        raise SettingError(f"{path}: the extractor is damaged: {user_code.one_line(failure)}") from None
    return frozen(module, description)


def build(description: Mapping[str, Any]) -> nn.Module:
    """Return the layers that `description` speaks of, with weights that mean nothing yet."""
    input_shape = tuple(int(length) for length in description["input_shape"])
    if description["name"] == RANDOM_FEATURES:
        return random_features(input_shape, int(description["features"]), seed=0).module
    try:
        settings = ModelSettings.model_validate(
            {"name": description["name"], "hidden": description["hidden"]}
        )
    except ValidationError as failure:
        raise ValueError(f"no such network: {failure.error_count()} settings are wrong") from None
    network = models.build(settings, input_shape, int(description["classes"]), seed=0, folder=Path())
    return without_output_layer(network)


def _described(description: Mapping[str, Any]) -> str:
    return json.dumps(description, sort_keys=True)


def _digest(module: nn.Module, description: Mapping[str, Any]) -> str:
    digest = hashlib.blake2b(_described(description).encode(), digest_size=16)
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"\0{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        digest.update(_bytes_of(tensor))
    return digest.hexdigest()


def _bytes_of(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()


class Extracted(nn.Module):
    """The whole network: `extractor`, frozen, and `head`, which learns."""

    def __init__(self, extractor: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.extractor = extractor
        self.head = head
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the head; the extractor's statistics must stay as they are, or heads would not compare."""
        super().train(mode)
        self.extractor.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits for samples `x`, by the long way."""
        logits: Tensor = self.head(self.extractor(x))
        return logits


def frozen_buffers(extractor: nn.Module) -> dict[str, Role]:
    """Return the roles of an extractor's buffers within `Extracted`: like its weights they stay as they are."""
    return {f"extractor.{name}": Role.FROZEN for name, _ in extractor.named_buffers()}
