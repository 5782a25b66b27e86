"""Memory of coded, received and decoded models is used again when, and only when, nobody holds the model."""

from __future__ import annotations

import errno
import mmap
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch

from gossip.draws import Draws
from gossip.wire import memory
from gossip.wire.codecs.settings import CODECS
from gossip.wire.memory import POOLED_BLOCKS_MAX, POOLED_BYTES_MAX, POOLED_BYTES_MIN, MemoryPool
from gossip.wire.tensors import TensorSpec, WireTensor, empty, to_numpy, to_torch

SPEC = TensorSpec("float32", (POOLED_BYTES_MIN // 4 + 1,))


def address(tensor: WireTensor) -> int:
    return int(np.frombuffer(tensor.data, np.uint8).ctypes.data)


@pytest.mark.parametrize(
    "hold",
    [
        lambda tensor: tensor,
        lambda tensor: tensor.data,
        lambda tensor: tensor.data[5:9],
        to_torch,
        lambda tensor: to_torch(tensor)[7:].reshape(-1, 1),
        lambda tensor: to_torch(tensor)[:2].numpy(),
        to_numpy,
        lambda tensor: to_numpy(tensor)[3:5][:1],
    ],
)
def test_a_block_is_not_handed_out_while_anything_refers_to_it(hold: Callable[[WireTensor], object]) -> None:
    pool = MemoryPool()
    first = empty(SPEC, pool)
    where = address(first)
    held = hold(first)
    del first
    second = empty(SPEC, pool)
    assert address(second) != where
    del held
    assert address(empty(SPEC, pool)) == where


def test_an_idle_pool_keeps_a_bounded_number_of_blocks() -> None:
    pool = MemoryPool()
    held = [empty(SPEC, pool) for _ in range(POOLED_BLOCKS_MAX + 3)]
    assert len({address(tensor) for tensor in held}) == len(held)
    assert len(pool._blocks) == POOLED_BLOCKS_MAX


def test_a_long_block_is_kept_by_nobody_but_who_holds_it() -> None:
    pool = MemoryPool()
    view = pool.take(POOLED_BYTES_MAX + 1)
    block = weakref.ref(view.obj)
    assert block() is not None
    del view
    assert block() is None


def test_what_nobody_has_had_between_two_calls_goes_back_to_the_system() -> None:
    pool = MemoryPool()
    view = pool.take(POOLED_BYTES_MIN)
    block = weakref.ref(view.obj)
    pool.give_back()
    pool.give_back()
    assert block() is not None  # held all the time
    del view
    pool.give_back()
    pool.take(POOLED_BYTES_MIN)
    pool.give_back()
    assert block() is not None  # had in between
    pool.give_back()
    assert block() is None


def test_where_a_kernel_has_no_large_pages_small_ones_do(monkeypatch) -> None:
    class Small(mmap.mmap):
        def madvise(self, *_: int) -> None:
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(memory.mmap, "mmap", Small)
    pool = MemoryPool()
    view = pool.take(POOLED_BYTES_MIN)
    view[-1] = 7
    assert (len(view), view[-1]) == (POOLED_BYTES_MIN, 7)


@pytest.mark.parametrize("kind", ["int8", "int4", "float16", "bfloat16"])
def test_a_codec_decodes_into_memory_that_is_idle_and_into_no_other(kind: str) -> None:
    choice = CODECS.validate({"kind": kind})
    codec = choice.load()(choice)
    codec.use_memory(coded=MemoryPool(), decoded=MemoryPool())
    vector = torch.linspace(-1, 1, POOLED_BYTES_MIN // 4 + 1)
    coded = codec.encode(vector, Draws(0, "a", 0))
    first = codec.read(coded, len(vector))
    kept, where = first.clone(), first.data_ptr()
    second = codec.read(coded, len(vector))
    assert second.data_ptr() != where
    assert torch.equal(first, kept)
    assert torch.equal(second, kept)
    del first
    assert codec.read(coded, len(vector)).data_ptr() == where


@pytest.mark.parametrize(("kind", "numbers"), [("int8", 1), ("int4", 2), ("float16", 0.5), ("bfloat16", 0.5)])
def test_a_codec_codes_into_memory_that_is_idle_and_into_no_other(kind: str, numbers: float) -> None:
    choice = CODECS.validate({"kind": kind})
    codec = choice.load()(choice)
    codec.use_memory(coded=MemoryPool(), decoded=MemoryPool())
    vector = torch.linspace(-1, 1, int(POOLED_BYTES_MIN * numbers))
    *_, first = codec.encode(vector, Draws(0, "a", 0))
    assert first.spec.nbytes == POOLED_BYTES_MIN
    kept, where = bytes(first.data), address(first)
    *_, second = codec.encode(-vector, Draws(0, "a", 0))
    assert address(second) != where
    assert bytes(first.data) == kept
    del first
    *_, third = codec.encode(vector, Draws(0, "a", 0))
    assert (address(third), bytes(third.data)) == (where, kept)
