"""A safetensors file in pieces, each the memory of a tensor itself; the library would first put the whole together.

The format: the length of the header in 8 bytes, little-endian; the header, JSON, padded with spaces to a multiple of 8;
the tensors, row-major, one after the other without gaps. Reading stays with the library.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from gossip.storage.atomic import Piece

_ALIGNED = 8
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a file."""

    dtype: str
    """Torch's name of it."""
    shape: tuple[int, ...]
    nbytes: int
    memory: Callable[[], memoryview]
    """Its bytes; asked for when they are written, so that what has to be copied is never there all at once."""


_NAMES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "int16": "I16",
    "float16": "F16",
    "bfloat16": "BF16",
    "int32": "I32",
    "float32": "F32",
    "float64": "F64",
    "int64": "I64",
}
"""In the order of their sizes: in a file the last come first, so that every tensor is aligned."""

_RANKS = {dtype: rank for rank, dtype in enumerate(_NAMES)}


def pieces(tensors: Mapping[str, Entry], about: Mapping[str, str]) -> Iterator[Piece]:
    """Yield the file of `tensors`, as the library orders them, and its metadata."""
    ordered = sorted(tensors.items(), key=lambda item: (-_RANKS[item[1].dtype], item[0]))
    header: dict[str, object] = {"__metadata__": dict(about)} if about else {}
    end = 0
    for name, entry in ordered:
        header[name] = {
            "dtype": _NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [end, end + entry.nbytes],
        }
        end += entry.nbytes
    text = _ENCODER.encode(header).encode()
    text += b" " * (-len(text) % _ALIGNED)
    yield len(text).to_bytes(8, "little") + text
    for _, entry in ordered:
        yield entry.memory()
