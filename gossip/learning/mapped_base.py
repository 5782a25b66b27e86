"""A large base that lies in its file: mapped into memory, never copied, shared by all processes of a machine.

Beside adapters, `[model] start` is the base. Its large weights are not read into memory of the process's own: they are
the file's pages, which the kernel reads when they are used, keeps once for all who map them, and may drop again. So
that the network does not take that memory either while it is made, its large tensors are made without any.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gossip.errors import GossipError
from gossip.learning.adapters import HALVES, may_be_adapted

LARGE = 1 << 16
"""Numbers from which on a tensor stays in its file; smaller ones are copied."""

BLOCK = 1 << 22
"""Numbers that are looked at together."""


class WithoutMemory(TorchFunctionMode):
    """Within it, large tensors that a network makes for its weights have shapes and no memory.

    Args:
        shapes: of the file's tensors; what has another is made as ever.
    """

    def __init__(self, shapes: Collection[torch.Size]) -> None:
        super().__init__()
        self._shapes = shapes

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call `func`; what `torch.empty` would make on the CPU is made on "meta" where it is large."""
        given = dict(kwargs or {})
        if func is torch.empty and given.get("device") in (None, "cpu", torch.device("cpu")):
            size = given.get("size", args[0] if args and not isinstance(args[0], int) else args)
            if torch.Size(size) in self._shapes:
                given["device"] = "meta"
        return func(*args, **given)


def made(build: Callable[[], nn.Module], path: Path) -> nn.Module | None:
    """Return what `build` makes, its large tensors those of the file; None where some are not there.

    None, too, where a network looks at its weights while it is made, or anything is wrong: that shows with memory.
    """
    try:
        with WithoutMemory(_large_shapes(path)):
            network = build()
        if not _lacks_memory(network):
            return None
        _put(network, path)
    except (GossipError, safetensors.SafetensorError, OSError, RuntimeError, NotImplementedError):
        return None
    return None if _lacks_memory(network) else network


def _large_shapes(path: Path) -> set[torch.Size]:
    with safetensors.safe_open(path, framework="pt") as file:
        shapes = {torch.Size(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping
    return {shape for shape in shapes if shape.numel() >= LARGE}


def _lacks_memory(network: nn.Module) -> bool:
    """Return whether a tensor of `network` has a shape and no values."""
    return any(tensor.is_meta for _, tensor in _tensors(network))


def _put(network: nn.Module, path: Path) -> None:
    """Let the tensors of `network` that have no memory be those of the file, by name.

    Weights of layers that may have adapters keep the file's precision, if that is half; others get the network's.
    A tensor of the file that has another shape stays for `parts.begin` to tell of.
    """
    owners = {id(layer.weight) for layer in network.modules() if may_be_adapted(layer)}
    with safetensors.safe_open(path, framework="pt") as file:
        there = set(file.keys())
        for name, tensor in _tensors(network):
            if not tensor.is_meta or name not in there:
                continue
            value = file.get_tensor(name)
            if value.shape != tensor.shape:
                continue
            if not (id(tensor) in owners and value.dtype in HALVES):
                value = value.to(tensor.dtype)
            _replace(network, tensor, value)


def is_finite(tensor: Tensor) -> bool:
    """Return whether all numbers are finite, without a mask as large as the tensor."""
    return all(bool(block.isfinite().all()) for block in torch.split(tensor.reshape(-1), BLOCK))


def _tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from network.named_parameters()
    yield from network.named_buffers()


def _replace(network: nn.Module, before: Tensor, value: Tensor) -> None:
    """Put `value` wherever a module of `network` holds the tensor `before`."""
    after = nn.Parameter(value, requires_grad=False) if isinstance(before, nn.Parameter) else value
    for module in network.modules():
        tables: Any = (module._parameters, module._buffers)
        for table in tables:
            for key, tensor in table.items():
                if tensor is before:
                    table[key] = after
        if isinstance(module, nn.RNNBase):
            module._init_flat_weights()
