"""A second device on a machine that has none: tensors "on meta" that do have values, and refuse to meet the CPU's.

Within `other_device()`, whatever is sent to torch's "meta" device computes on the CPU under that name. As on a real
accelerator an operation takes tensors of one device only, single numbers and copies aside, and numpy sees none of them.
It tells nothing of a real device's kernels, speed or rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

OTHER = "meta"
_BETWEEN = {
    torch.ops.aten.copy_.default,
    torch.ops.aten._to_copy.default,
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put_.default,
}
"""These take tensors of two devices: copies, and indices from the CPU."""


class Elsewhere(torch.Tensor):
    """A tensor on the other device; `values` has what it holds."""

    values: torch.Tensor

    @staticmethod
    def __new__(cls, values: torch.Tensor) -> Elsewhere:
        made = torch.Tensor._make_wrapper_subclass(
            cls, values.size(), strides=values.stride(), dtype=values.dtype, device=OTHER
        )
        made.values = values
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Elsewhere({self.values})"

    def data_ptr(self) -> int:
        return self.values.data_ptr()

    def tolist(self) -> Any:
        return self.values.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


def _computed(func: Any, args: Any, kwargs: Any) -> Any:
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
    there = [each for each in tensors if isinstance(each, Elsewhere)]
    assert not any(type(each) is torch.Tensor and each.is_meta for each in tensors), f"{func}: made past us"
    if there and func not in _BETWEEN:
        strangers = [each for each in tensors if not isinstance(each, Elsewhere) and each.dim()]
        assert not strangers, f"{func} of tensors on {OTHER} and on the CPU, {tuple(strangers[0].shape)}"
    if kwargs.get("device") is None:
        to_other = bool(there)
    else:
        to_other = torch.device(kwargs["device"]).type == OTHER
        kwargs = {**kwargs, "device": torch.device("cpu")}
    outcome = func(*tree_map(_values, args), **tree_map(_values, kwargs))
    # What was changed where it lies, or handed through, keeps its name.
    known = {id(_values(each)): each for each in tensors}

    def named(each: Any) -> Any:
        if not isinstance(each, torch.Tensor):
            return each
        return known.get(id(each), Elsewhere(each) if to_other else each)

    return tree_map(named, outcome)


def _values(each: Any) -> Any:
    return each.values if isinstance(each, Elsewhere) else each


class _Numbers(TorchFunctionMode):
    """These make what they make, an index for one, without asking anybody."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.tensor and torch.device(kwargs.get("device") or "cpu").type == OTHER:
            return func(*args, **{**kwargs, "device": "cpu"}).to(OTHER)
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__) and isinstance(args[1], list):
            return func(args[0], torch.tensor(args[1]), *args[2:])
        if func is torch.Tensor.new_tensor and isinstance(args[0], Elsewhere):
            return func(args[0].values, *args[1:], **kwargs).to(OTHER)
        return func(*args, **kwargs)


@contextmanager
def other_device() -> Iterator[str]:
    """Let `OTHER` be a device that computes."""
    with _Mode(), _Numbers():
        yield OTHER
