"""Where one peer's learning computes, and how vectors get there and back."""

from __future__ import annotations

import torch
from torch import Tensor

from gossip.errors import SettingError
from gossip.plugins import one_line

ACCELERATORS = ("cuda", "mps")
"""In the order in which "auto" takes them."""


def _is_there(kind: str) -> bool:
    return torch.cuda.is_available() if kind == "cuda" else torch.backends.mps.is_available()


def find(wanted: str, *, where: str = "device") -> torch.device:
    """Return the device that "auto", "cpu", "cuda" or "mps" means here, with its number.

    Args:
        wanted: "auto" takes the first accelerator that is there, or the CPU.
        where: what the sentence begins with.

    Raises:
        SettingError: it is not there, or cannot be used; the sentence names those that can.
    """
    there = [kind for kind in ACCELERATORS if _is_there(kind)]
    kind = next(iter(there), "cpu") if wanted == "auto" else wanted
    if kind != "cpu" and kind not in there:
        raise SettingError(f"{where} = '{wanted}': there is none here; valid here: {_listed(there)}")
    try:
        return torch.empty(0, device=kind).device
    except (RuntimeError, AssertionError) as failure:
        others = _listed([each for each in there if each != kind])
        raise SettingError(
            f"{where} = '{wanted}': it is there but cannot be used ({one_line(failure)}); valid here: {others}"
        ) from failure


def _listed(there: list[str]) -> str:
    return ", ".join(["auto", "cpu", *there])


def round_as_told(device: torch.device) -> None:
    """Have convolutions round to float32 on `device`: `[local] precision` is what asks for less.

    By itself CUDA's library rounds their inputs to TF32, eleven bits of a significand, and a peer with a card would
    learn something else than its neighbours.
    """
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False


class Transfers:
    """To a device and back to the CPU.

    What comes back from CUDA lies in pinned memory, from which it is fetched without a copy in between when it is sent
    there again: models come and go in each round. Whoever sends something there has to fetch a result before what was
    sent may be written over.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._pins = device.type == "cuda"

    def there(self, x: Tensor) -> Tensor:
        """Return `x` on the device; `x` itself where it lies there."""
        return x.to(self.device, non_blocking=self._pins and x.is_pinned())

    def back(self, x: Tensor) -> Tensor:
        """Return `x` on the CPU, computed; `x` itself where it lies there."""
        if not self._pins or x.device.type == "cpu":
            return x.cpu()
        return torch.empty(x.shape, dtype=x.dtype, pin_memory=True).copy_(x)
