"""What a peer signs, and what it found best, as real nodes keep them."""

from __future__ import annotations

import operator
from pathlib import Path

import pytest

from gossip.errors import ProtocolMisuse
from gossip.learning.objectives.score import Score
from gossip.net import signing
from gossip.net.identity import Identity
from gossip.node.best import Best


def test_only_the_key_of_the_certificate_signs_and_only_what_it_has_signed(tmp_path):
    alice, bob = (
        Identity.create(tmp_path / name, name=name, advertise="127.0.0.1:7700") for name in ("alice", "bob")
    )
    signed = signing.sign(alice, b"said")
    assert signing.verify(alice.certificate_der, b"said", signed)
    assert not signing.verify(alice.certificate_der, b"said otherwise", signed)
    assert not signing.verify(bob.certificate_der, b"said", signed)
    assert not signing.verify(alice.certificate_der, b"said", signed[:-1])
    assert not signing.verify(alice.certificate_der, b"said", b"")
    assert not signing.verify(None, b"said", signed)
    with pytest.raises(ProtocolMisuse, match="identity"):
        signing.sign(None, b"said")


@pytest.mark.parametrize("higher", [True, False])
def test_a_model_is_written_only_if_it_is_better_than_all_before(higher):
    written = []
    best = Best(
        Path("none"), Score("s", higher_is_better=higher), lambda path, model, *told: written.append(told)
    )
    for round, score in enumerate([float("nan"), 0.5, 0.5, 0.4, 0.7, 0.6, float("inf")], 1):
        best.offer(None, round=round, score=score)
    assert written == ([(2, 0.5), (5, 0.7)] if higher else [(2, 0.5), (4, 0.4)])
    assert (best.round, best.score) == written[-1]


def test_a_file_that_is_no_model_of_the_run_is_written_over(tmp_path):
    path = tmp_path / "best.safetensors"
    path.write_bytes(b"nonsense")
    best = Best(path, Score("s"), operator.call if hasattr(operator, "call") else print)
    best.found(run_id="r")
    assert best.score is None
