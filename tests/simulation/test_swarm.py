"""Seeded runs of everything at once: safety under all faults, then progress; `swarm` tells how to replay one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from gossip.protocols.rounds import inbox, waiting
from scenarios.virtual.events import network as network_module
from scenarios.virtual.events.connections import Connections
from tests.laws import examples
from tests.simulation import swarm

FOUND_WITHIN = 60
"""So many seeds find what is broken."""


def run_seeds(seeds: Iterable[int]) -> None:
    for seed in seeds:
        swarm.run_seed(seed)


@pytest.mark.parametrize("seed", range(examples(1)))
def test_whatever_goes_wrong_nothing_forbidden_happens_and_afterwards_all_finish(seed):
    swarm.run_seed(seed)


@pytest.mark.parametrize("parts", [2, 3, 7])
@pytest.mark.parametrize("seed", range(2, 2 + examples(0.2)))
def test_models_in_parts_are_mixed_as_whole_ones_are_whatever_goes_wrong(seed, parts):
    swarm.run_seed(seed, parts=parts)


def test_the_same_seed_gives_the_same_digest_and_another_seed_another_one():
    seeds = (3, 4, 7, 12)
    first = [swarm.run_seed(seed).digest for seed in seeds]
    assert [swarm.run_seed(seed).digest for seed in seeds] == first
    assert len(set(first)) == len(seeds)


def test_the_digest_does_not_depend_on_how_strings_are_hashed():
    def told(hash_seed: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "tests.simulation.swarm", "--seed", "4"],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    first = told("1")
    assert "digest" in first
    assert first == told("2")


@pytest.mark.parametrize(
    ("where", "name", "broken", "first", "checker"),
    [
        (Connections, "stopped", lambda self, peer: None, 12, "SilenceIsNoticed"),
        (Connections, "went_on", lambda self, peer: None, 12, "BothEndsAgree"),
        (Connections, "died", lambda self, peer: None, 1, "OnlyTheLivingAreTold"),
        (inbox, "KEPT_PER_SENDER_MAX", 99, 3, "QueuesAreBounded"),
        (waiting, "CLOCK_S", 99.0, 1, "WaitsEnd"),
        (network_module, "WAITING_MODELS_MAX", 99, 20, "QueuesAreBounded"),
    ],
)
def test_a_broken_engine_is_found_and_the_failure_says_how_to_replay_it(
    monkeypatch, where, name, broken, first, checker
):
    """Some seed does: `first` is the first that does at present, and tried first."""
    monkeypatch.setattr(where, name, broken)
    with pytest.raises(swarm.SwarmFailure) as failure:
        run_seeds((*range(first, FOUND_WITHIN), *range(first)))
    said = str(failure.value)
    assert checker in said
    assert f"replay: python -m tests.simulation.swarm --seed {said.split()[1].rstrip(':')}" in said
