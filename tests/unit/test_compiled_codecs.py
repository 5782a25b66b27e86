"""int8 and int4 by compiled kernels: the bytes that torch writes, the numbers that it reads."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gossip.draws import Draws
from gossip.errors import PeerError
from gossip.wire.codecs import compiled
from gossip.wire.codecs.blocks import Blocks
from gossip.wire.codecs.settings import CODECS
from gossip.wire.tensors import WireTensor
from tests.laws import tried

DRAWS = Draws(0, "peer-00", 3)
KINDS = st.sampled_from(["int8", "int4"])
BLOCKS = st.sampled_from([32, 96, 64, 256, 3200])
SIZES = st.one_of(st.integers(1, 300), st.integers(2000, 6500))
EDGES = [0.0, -0.0, 1e-45, -1e-45, 1.2e-38, 3.4e38, -3.4e38, np.inf, -np.inf, np.nan]
"""Zeros, denormals, the largest, and what is not finite."""


@pytest.fixture(scope="module")
def numba() -> Any:
    found = pytest.importorskip("numba", reason="the kernels are compiled by numba, of the extra `fast`")
    compiled._loaded()  # outside of laws, which find it slow
    return found


@contextlib.contextmanager
def numbers_min(least: int) -> Iterator[None]:
    before, compiled.NUMBERS_MIN = compiled.NUMBERS_MIN, least
    try:
        yield
    finally:
        compiled.NUMBERS_MIN = before


def codec_of(kind: str, block: int, rounding: str) -> Blocks:
    choice = CODECS.validate({"kind": kind, "block": block})
    choice = choice.model_copy(update={"rounding": rounding})  # also what a task file may not ask for alone
    return choice.load()(choice)


def written(codec: Blocks, vector: torch.Tensor) -> list[bytes]:
    return [bytes(tensor.data) for tensor in codec.encode(vector, DRAWS)]


def read(codec: Blocks, tensors: tuple[WireTensor, ...], elements: int) -> bytes | str:
    """Return the numbers' bits, or the sentence of a refusal."""
    try:
        return codec.decode_as(tensors, elements).numpy().tobytes()
    except PeerError as refused:
        return str(refused)


@tried(3)
@given(
    KINDS,
    BLOCKS,
    SIZES,
    st.sampled_from(["stochastic", "nearest"]),
    st.lists(st.one_of(st.sampled_from(EDGES), st.floats(width=32)), max_size=12),
    st.integers(-148, 120),
    st.integers(0, 2**32),
)
def test_the_kernels_write_the_bytes_that_torch_writes_and_read_what_it_reads(
    numba, kind, block, elements, rounding, some, exponent, seed
) -> None:
    draw = np.random.default_rng(seed)
    numbers = np.ldexp(draw.standard_normal(elements), exponent).astype(np.float32)
    numbers[draw.integers(0, elements, len(some))] = some
    vector, codec = torch.from_numpy(numbers), codec_of(kind, block, rounding)
    by_torch = codec.encode(vector, DRAWS)
    of_torch = read(codec, by_torch, elements)
    with numbers_min(0):
        assert compiled.coder(elements) == f"numba {numba.__version__}"
        assert written(codec, vector) == [bytes(tensor.data) for tensor in by_torch]
        assert read(codec, by_torch, elements) == of_torch


@tried(2)
@given(KINDS, BLOCKS, SIZES, st.integers(0, 40), st.integers(0, 2**32))
def test_the_kernels_make_of_any_bytes_what_torch_makes_of_them(
    numba, kind, block, elements, bad, seed
) -> None:
    """Numbers with any scales, or the same refusal."""
    draw = np.random.default_rng(seed)
    codec = codec_of(kind, block, "nearest")
    scales, codes = (
        np.frombuffer(draw.bytes(spec.nbytes), np.uint8).copy() for spec in codec.specs(elements)
    )
    scales[3::4] &= 0x7F  # none negative: that is refused before there are codes
    if bad:  # else nearly all have a code that no number has
        codes[codes == 0x80] = 0
        codes[(codes & 15 == 0) | (codes >> 4 == 0)] |= 0x11
        codes[-1] = 0x81
        codes[draw.integers(0, len(codes))] = [0x80, 0x08, 0x81, 0x18][bad % 4]
    tensors = tuple(
        WireTensor(spec.dtype, spec.shape, each.data)
        for spec, each in zip(codec.specs(elements), (scales, codes), strict=True)
    )
    of_torch = read(codec, tensors, elements)
    with numbers_min(0):
        assert read(codec, tensors, elements) == of_torch


def at_an_odd_place(tensor: torch.Tensor) -> torch.Tensor:
    """Return the same numbers in memory that no processor's word begins at."""
    memory = bytearray(1 + tensor.nbytes)
    memory[1:] = tensor.numpy().tobytes()
    return torch.from_numpy(np.frombuffer(memory, np.float32, offset=1))


@pytest.mark.parametrize("how", ["strided", "float64", "at an odd place", "of a graph"])
def test_of_vectors_that_are_no_plain_memory_the_bytes_are_the_same(numba, how: str) -> None:
    vector = torch.randn(2 * 999, generator=torch.Generator().manual_seed(2))
    made = {
        "strided": lambda: vector[::2],
        "float64": vector.double,
        "at an odd place": lambda: at_an_odd_place(vector),
        "of a graph": vector.requires_grad_,
    }[how]()
    codec = codec_of("int8", 64, "stochastic")
    with torch.no_grad():
        by_torch = written(codec, made)
        with numbers_min(0):
            assert written(codec, made) == by_torch


@pytest.mark.parametrize(("packed", "codes"), [(False, 51), (True, 26)])
def test_tensors_that_are_too_short_are_not_read_beyond_their_end(numba, packed: bool, codes: int) -> None:
    form = compiled.Form(32, packed)

    def decoded(scales: int, codes: int) -> bool | None:
        tensors = torch.ones(scales), torch.full((codes,), 0x11, dtype=torch.uint8)
        return compiled.decode(*tensors, form, torch.empty(51), elements=51)

    with numbers_min(0):
        assert decoded(2, codes)
        assert decoded(1, codes) is None
        assert decoded(2, codes - 1) is None


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_no_plain_memory_is_left_to_torch(numba, packed: bool) -> None:
    form, ones = compiled.Form(32, packed), torch.ones(8)
    codes = torch.full((16 if packed else 32,), 0x11, dtype=torch.uint8)
    with numbers_min(0):
        for scales in (at_an_odd_place(ones), ones[::2], ones.double(), torch.ones(8, device="meta")):
            assert compiled.decode(scales, codes, form, torch.empty(32), elements=32) is None
            assert not compiled.encode(scales, ones, codes, form, None)
        assert compiled.decode(ones, codes, form, torch.empty(32), elements=32)


@pytest.mark.parametrize("block", [16, 24, 48])
def test_a_block_that_is_not_made_of_groups_is_left_to_torch(numba, block: int) -> None:
    codec, vector = codec_of("int4", block, "stochastic"), torch.randn(100)
    by_torch = written(codec, vector)
    with numbers_min(0):
        assert written(codec, vector) == by_torch
        assert len(codec.decode(codec.encode(vector, DRAWS))) == 100


def test_whoever_steps_the_generator_finds_the_words() -> None:
    state, multiplier, increment = DRAWS.generator()
    for word in DRAWS.words(10).view("<u8").tolist():
        state = (state * multiplier + increment) % 2**128
        mixed, by = (state >> 64) ^ (state % 2**64), state >> 122
        assert word == (mixed >> by | mixed << (64 - by)) % 2**64


class Spy:
    """Kernels that tell whether they are asked for."""

    LANES = 8

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, *_: object) -> None:
        self.asked.append("encode")

    def decode(self, *_: object) -> bool:
        self.asked.append("decode")
        return True


def test_models_below_four_million_numbers_are_left_to_torch(monkeypatch) -> None:
    assert compiled.NUMBERS_MIN == 1 << 22
    spy, codec = Spy(), codec_of("int8", 3200, "nearest")
    monkeypatch.setattr(compiled, "_loaded", lambda: SimpleNamespace(kernels=spy, by="spy"))
    monkeypatch.setattr(compiled, "NUMBERS_MIN", 4000)
    codec.decode(codec.encode(torch.ones(3999), DRAWS))
    assert (spy.asked, compiled.coder(3999)) == ([], "torch")
    codec.decode(codec.encode(torch.ones(4000), DRAWS))
    assert (set(spy.asked), compiled.coder(4000)) == ({"encode", "decode"}, "spy")


@pytest.mark.parametrize(
    ("failure", "by"),
    [
        (ModuleNotFoundError("No module named 'numba'"), "torch; numba is not installed"),
        (ImportError("needs an older numpy"), "torch; numba fails: needs an older numpy"),
        (None, "torch; numba is not to compile"),
    ],
)
def test_where_numba_is_missing_fails_or_is_switched_off_torch_codes(failure, by, monkeypatch) -> None:
    def imported(name: str) -> Any:
        if failure is not None:
            raise failure
        return SimpleNamespace(config=SimpleNamespace(DISABLE_JIT=1), __version__="1")

    codec, vector = codec_of("int8", 8, "stochastic"), torch.randn(100)
    before = written(codec, vector)
    monkeypatch.setattr(compiled, "importlib", SimpleNamespace(import_module=imported))
    compiled._loaded.cache_clear()
    try:
        with numbers_min(0):
            assert compiled.coder(100) == by
            assert written(codec, vector) == before
            assert len(codec.decode(codec.encode(vector, DRAWS))) == 100
    finally:
        compiled._loaded.cache_clear()


def test_where_no_folder_can_keep_it_a_kernel_is_compiled_all_the_same(numba) -> None:
    kernels = importlib.import_module("gossip.wire.codecs.kernels")
    found: dict[str, Any] = {}
    exec("def twice(x): return 2 * x", found)  # of no file: numba knows no folder for it
    assert kernels._kernel(numba.int64(numba.int64))(found["twice"])(21) == 42
