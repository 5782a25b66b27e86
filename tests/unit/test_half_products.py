"""Products with frozen weights of half precision: torch's values, and the gradient of real numbers but for rounding."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from gossip.learning import half_products
from tests.laws import tried


@tried(1)
@given(
    dtype=st.sampled_from([torch.bfloat16, torch.float16]),
    shape=st.sampled_from([(), (3,), (2, 3), (0,)]),
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    block=st.sampled_from([1, 64, 1 << 18]),
    seed=st.integers(0, 2**16),
)
def test_a_product_is_torchs_and_its_gradient_is_exact_but_for_rounding(dtype, shape, sizes, block, seed):
    (outputs, inputs), g = sizes, torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=g).to(dtype)
    x = torch.randn(*shape, inputs, generator=g).to(dtype).requires_grad_()
    given = torch.randn(*shape, outputs, generator=g).to(dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(half_products, "in_hardware", lambda dtype: False)
        patch.setattr(half_products, "BLOCK", block)
        for each in (
            weight,
            weight.T.contiguous().T,
        ):  # as a linear layer has it, and one with its weight turned
            made = half_products.product(x, each)
            assert type(made.grad_fn).__name__ != "LinearBackward0"
            assert torch.equal(made, functional.linear(x, each))
            (found,) = torch.autograd.grad(made, x, given)
            exact = given.double() @ weight.double()
            size = given.double().abs() @ weight.double().abs()
            assert found.dtype is dtype
            assert bool(((found - exact).abs() <= (torch.finfo(dtype).eps + 1e-5) * size + 1e-6).all())


def test_gradients_of_single_samples_and_of_stacks_come_by_it_too(monkeypatch):
    monkeypatch.setattr(half_products, "in_hardware", lambda dtype: False)
    g = torch.Generator().manual_seed(0)
    weight, x = torch.randn(6, 5, generator=g).bfloat16(), torch.randn(3, 4, 5, generator=g).bfloat16()

    def loss(x):
        return half_products.product(x, weight).float().square().sum()

    together = torch.func.vmap(torch.func.grad(loss))(x)
    for row, one in zip(together, x, strict=True):
        leaf = one.clone().requires_grad_()
        loss(leaf).backward()
        torch.testing.assert_close(row, leaf.grad)


def test_a_torch_that_cannot_say_what_the_processor_does_is_left_as_it_is(monkeypatch):
    half_products.in_hardware.cache_clear()
    try:
        for says in (SimpleNamespace(), SimpleNamespace(_is_mkldnn_bf16_supported=_raises)):
            other = SimpleNamespace(bfloat16=torch.bfloat16, ops=SimpleNamespace(mkldnn=says))
            monkeypatch.setattr(half_products, "torch", other)
            assert half_products.in_hardware(torch.bfloat16)
            half_products.in_hardware.cache_clear()
    finally:
        half_products.in_hardware.cache_clear()


def _raises():
    raise RuntimeError("built without it")
