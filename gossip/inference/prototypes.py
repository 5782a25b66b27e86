"""A finished model that tells by the nearest prototype of its home's table, in place of what was learnt.

The table has classes of which a peer has no sample of its own, and its network has never heard: see `gossip.channels`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from gossip.errors import SettingError
from gossip.inference.loaded import LoadedModel
from gossip.learning.extractor import Extracted
from gossip.storage.models import PROTOTYPES

UNKNOWN = -1e30
"""Output of a class without a prototype, whose bias is -inf in the file, of which softmax makes no share."""


class Nearest(nn.Module):
    """The layer of a file of prototypes: outputs (n, classes), the largest of the nearest, for samples (n, …)."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.linear = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            self.linear.weight.copy_(weight)
            self.linear.bias.copy_(bias)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Return them."""
        outputs: Tensor = self.linear(x.flatten(1).to(torch.float32))
        return outputs


def by_prototypes(model: LoadedModel) -> LoadedModel:
    """Return the model with the nearest prototype of its home in place of all learned layers.

    Raises:
        SettingError: the home has no readable table of prototypes, none of any class, or one of another model.
    """
    path = model.path.parent / PROTOTYPES
    weight, bias = _read(path)
    known = bias.isfinite()
    if not bool(known.any()):
        raise SettingError(f"{path}: there is no class whose prototype is known")
    module = model.module
    nearest = Nearest(weight, bias.where(known, torch.tensor(UNKNOWN)))
    whole = Extracted(module.extractor, nearest) if isinstance(module, Extracted) else nearest
    try:
        with torch.no_grad():
            outputs = whole.eval()(torch.zeros(1, *model.input_shape))
    except RuntimeError:
        outputs = torch.empty(1, 0)
    if outputs.shape[1] != model.outputs:
        raise SettingError(
            f"{path}: holds prototypes of other samples or classes than {model.path.name} beside it"
        )
    return replace(model, module=whole, path=path)


def _read(path: Path) -> tuple[Tensor, Tensor]:
    if not path.is_file():
        raise SettingError(
            f"--prototypes: there is no {path}; a node writes it where [channel] kind = 'prototypes'"
        )
    try:
        tensors = safetensors.torch.load_file(path)
        weight, bias = tensors["weight"], tensors["bias"]
    except (safetensors.SafetensorError, OSError, KeyError) as failure:
        raise SettingError(f"{path}: no readable prototypes: {failure}") from None
    if weight.dim() != 2 or bias.shape != weight.shape[:1] or not bool(weight.isfinite().all()):
        raise SettingError(
            f"{path}: no readable prototypes: weight (classes, width) and bias (classes,) are needed"
        )
    return weight, bias
