"""What is measured of a stack's logits is cross-entropy by logsumexp and hits by argmax, whatever the logits are."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from scenarios.virtual.learning.evaluation import losses_and_hits
from tests.laws import tried

NUMBERS = st.one_of(
    st.floats(-4, 4, width=32),
    st.sampled_from([0.0, -0.0, 1.0, 1.0 + 2**-23, 1e-8, 3e38, -3e38, math.inf, -math.inf, math.nan]),
)


@given(st.data())
@tried(8)
def test_losses_and_hits_are_those_of_logsumexp_and_argmax_to_the_bit(data):
    models, classes, samples = (data.draw(st.integers(1, most)) for most in (3, 5, 4))
    count = models * classes * samples
    numbers = st.lists(
        NUMBERS if data.draw(st.booleans()) else st.floats(-4, 4, width=32), min_size=count, max_size=count
    )
    logits = torch.tensor(data.draw(numbers)).view(models, classes, samples)
    y = torch.tensor(data.draw(st.lists(st.integers(0, classes - 1), min_size=samples, max_size=samples)))
    losses, hits = losses_and_hits(logits.clone(), y)
    labelled = logits.gather(1, y.expand(models, 1, -1)).squeeze(1)
    assert torch.equal(
        losses.view(torch.int32).masked_fill(losses.isnan(), 0),
        (wanted := torch.logsumexp(logits, 1) - labelled).view(torch.int32).masked_fill(wanted.isnan(), 0),
    )
    assert torch.equal(losses.isnan(), wanted.isnan())
    assert torch.equal(hits, logits.argmax(1) == y)
