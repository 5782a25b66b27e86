"""Tensors on the wire: a dtype, a shape and the tensor's own memory, in row-major order, little-endian.

Nothing here copies, except where it says so. Torch is imported only by the functions that speak of it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from gossip.errors import PeerError, ProtocolMisuse
from gossip.protocols.base import Part
from gossip.wire.memory import MemoryPool

if TYPE_CHECKING:
    import torch

if sys.byteorder != "little":
    raise ImportError("tensors travel as little-endian memory, and this machine is big-endian")

ITEM_BYTES = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
}
"""The dtypes that may travel, by their torch names."""

DIMENSIONS_MAX = 8
"""No parameter tensor has more; bounds what a header may say."""

TENSOR_BYTES_MAX = 2**32 - 1
"""The longest msgpack `bin`."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a tensor on the wire looks like."""

    dtype: str
    shape: tuple[int, ...]
    shorter: bool = False
    """Agreed upon, it may have fewer elements on its one axis, but one: what is compressed."""

    @property
    def nbytes(self) -> int:
        """Bytes of its data; where it may be shorter, the most that there are."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]

    def admits(self, found: TensorSpec) -> bool:
        """Return whether a tensor may look so, if it is agreed to look like this one."""
        if not self.shorter:
            return found == self
        return found.dtype == self.dtype and len(found.shape) == 1 and 0 < found.shape[0] <= self.shape[0]


def admitted(found: Sequence[TensorSpec], agreed: Sequence[TensorSpec]) -> bool:
    """Return whether tensors look as was agreed."""
    return len(found) == len(agreed) and all(
        wanted.admits(spec) for spec, wanted in zip(found, agreed, strict=True)
    )


EXACT = "float32"
"""The codec under which whole messages travel, whatever the run's is."""


def exact_specs(learned: int, piece: Part | None = None) -> tuple[TensorSpec, ...]:
    """Return the tensors of a model of `learned` parameters in a message that is `whole`, or of a piece of it.

    Raises:
        ValueError: there is no such piece.
    """
    start, stop = (0, learned) if piece is None else piece.bounds(learned)
    return (TensorSpec(EXACT, (stop - start,)),)


PartSpecs: TypeAlias = Callable[[Part], tuple[TensorSpec, ...]]
"""What a part of the run's model becomes on the wire; raises `ValueError` for a part that there is not."""


@dataclass(frozen=True, slots=True, eq=False)
class WireTensor:
    """A tensor as it travels; `data` is a flat view of bytes, of the tensor's own memory where it was made here."""

    dtype: str
    shape: tuple[int, ...]
    data: memoryview

    def __post_init__(self) -> None:
        if self.data.nbytes != self.spec.nbytes:
            raise ProtocolMisuse(f"{self.data.nbytes} bytes are not a tensor of {self.spec}")

    @property
    def spec(self) -> TensorSpec:
        """Its dtype and shape."""
        return TensorSpec(self.dtype, self.shape)


def from_numpy(array: np.ndarray[Any, Any]) -> WireTensor:
    """Return `array` as a wire tensor over the same memory; copies only if it is not row-major or not little-endian."""
    name = array.dtype.name
    if name not in ITEM_BYTES:
        raise ProtocolMisuse(f"arrays of dtype {name} do not travel; valid: {', '.join(ITEM_BYTES)}")
    flat = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return WireTensor(name, array.shape, _bytes_of(flat))


def to_numpy(tensor: WireTensor) -> np.ndarray[Any, Any]:
    """Return an array over the tensor's memory. bfloat16, which numpy has not, comes as uint16 bit patterns."""
    _check_bool(tensor)
    dtype = "uint16" if tensor.dtype == "bfloat16" else tensor.dtype
    return np.frombuffer(tensor.data, dtype=np.dtype(dtype).newbyteorder("<")).reshape(tensor.shape)


def from_torch(tensor: torch.Tensor) -> WireTensor:
    """Return `tensor` as a wire tensor over the same memory; copies only if it is not row-major or not on the CPU."""
    import torch

    name = str(tensor.dtype).removeprefix("torch.")
    if name not in ITEM_BYTES:
        raise ProtocolMisuse(f"tensors of dtype {name} do not travel; valid: {', '.join(ITEM_BYTES)}")
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return WireTensor(name, tuple(tensor.shape), _bytes_of(flat))


def to_torch(tensor: WireTensor) -> torch.Tensor:
    """Return a tensor over the same memory; copies only where that memory is read-only, which torch does not know."""
    import torch

    _check_bool(tensor)
    dtype: torch.dtype = getattr(torch, tensor.dtype)
    if tensor.data.nbytes == 0:
        return torch.empty(tensor.shape, dtype=dtype)
    data = memoryview(bytearray(tensor.data)) if tensor.data.readonly else tensor.data
    return torch.frombuffer(data, dtype=dtype).reshape(tensor.shape)


def empty(spec: TensorSpec, pool: MemoryPool | None = None) -> WireTensor:
    """Return a tensor that is still to be filled, with memory of its own or a pool's; aligned for its dtype.

    Numpy allocates it, which asks the kernel for large pages, as torch does not: to write 100 MB for the first time
    then takes a quarter of the time.
    """
    data = (pool or MemoryPool()).take(spec.nbytes)
    return WireTensor(spec.dtype, spec.shape, data)


def _bytes_of(array: np.ndarray[Any, Any]) -> memoryview:
    # memoryview.cast refuses shapes with a zero in them.
    return array.reshape(-1).view(np.uint8).data if array.size else memoryview(bytearray())


def _check_bool(tensor: WireTensor) -> None:
    """Refuse bytes that are no bool: torch and numpy take them for truth here and for their value there."""
    if tensor.dtype == "bool" and tensor.data.nbytes:
        largest = int(np.frombuffer(tensor.data, dtype=np.uint8).max())
        if largest > 1:
            raise PeerError("garbage", f"a tensor of bools holds the byte {largest}")
