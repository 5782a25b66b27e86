"""Tensors compressed by zstd, without loss; what they become when they are inflated is known before.

A compressed tensor is one zstd frame that tells its content's size. That is held against what was agreed before any
memory is taken, so what a few bytes are inflated to is never more than the model itself.
"""

from __future__ import annotations

from gossip.errors import PeerError
from gossip.wire.tensors import TensorSpec, WireTensor

LEVEL = 1
"""The fastest: codes of numbers are all but random, and higher levels find no more in them."""


def compressed_spec(spec: TensorSpec) -> TensorSpec:
    """Return what a tensor of `spec` becomes: at most so many bytes, zstd's own bound for what does not compress."""
    nbytes = spec.nbytes
    return TensorSpec("uint8", (nbytes + nbytes // 256 + 128,), shorter=True)


def deflated(tensor: WireTensor) -> WireTensor:
    """Return the tensor compressed."""
    import zstandard

    data = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True).compress(tensor.data)
    return WireTensor("uint8", (len(data),), memoryview(data))


def content_bytes(tensor: WireTensor) -> int:
    """Return how many bytes a compressed tensor says that it holds; nothing is inflated.

    Raises:
        PeerError: "garbage", it is no frame that says so.
    """
    import zstandard

    try:
        size = zstandard.frame_content_size(tensor.data)
    except zstandard.ZstdError:
        size = -1
    if size < 0:
        raise PeerError("garbage", "a compressed tensor that does not tell its size")
    return int(size)


def inflated(tensor: WireTensor, spec: TensorSpec) -> WireTensor:
    """Return the tensor of `spec` that was compressed.

    Raises:
        PeerError: "garbage", for anything else; what is of another size is never inflated.
    """
    import zstandard

    if content_bytes(tensor) != spec.nbytes:
        raise PeerError("garbage", f"a compressed tensor of other than {spec.nbytes} bytes")
    try:
        data = zstandard.ZstdDecompressor().decompress(
            tensor.data, max_output_size=spec.nbytes, allow_extra_data=False
        )
    except zstandard.ZstdError:
        raise PeerError("garbage", "a compressed tensor that cannot be inflated") from None
    if len(data) != spec.nbytes:
        raise PeerError("garbage", f"a compressed tensor of {len(data)} bytes that tells of {spec.nbytes}")
    return WireTensor(spec.dtype, spec.shape, memoryview(data))
