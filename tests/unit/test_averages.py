"""The average model and the consensus distance, from snapshots with known numbers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gossip.storage.models import encode_snapshot
from scenarios.processes.averages import Averages


def task() -> Any:
    """Stands for a task of three elements, two of them learned; its accuracy is the mean's first element."""
    return SimpleNamespace(
        space=SimpleNamespace(size=3, learned_size=2),
        evaluate=lambda vector: SimpleNamespace(score=float(vector[0]), loss=float(vector[2])),
    )


def homes_with(folder: Path, *vectors: list[float], round: int = 1) -> dict[str, Path]:
    homes = {f"peer-{index:02}": folder / f"peer-{index:02}" for index in range(len(vectors))}
    for home, vector in zip(homes.values(), vectors, strict=True):
        (home / "snapshots").mkdir(parents=True, exist_ok=True)
        path = home / "snapshots" / f"round-{round:08d}.safetensors"
        path.write_bytes(encode_snapshot(torch.tensor(vector)))
    return homes


def test_the_distance_is_over_what_is_learned_and_the_mean_over_everything(tmp_path: Path) -> None:
    homes = homes_with(tmp_path, [0.0, 3.0, 10.0], [1.0, 5.0, 20.0])
    averages = Averages(task(), homes, keep=False)
    averages.advance({"peer-00": 1, "peer-01": 1})
    average = averages.by_round[1]
    # x̄ = (0.5, 4, 15); both are at squared distance 0.25 + 1 from it over the learned two.
    assert average.consensus_distance == pytest.approx(1.25**0.5)
    assert (average.score, average.test_loss, average.peers) == (0.5, 15.0, 2)


def test_a_round_waits_for_all_peers_and_its_snapshots_go_when_it_is_done(tmp_path: Path) -> None:
    homes = homes_with(tmp_path, [0.0, 0.0, 0.0], [1.0, 1.0, 1.0])
    averages = Averages(task(), homes, keep=False)
    averages.advance({"peer-00": 1})
    assert averages.by_round == {}
    averages.advance({"peer-00": 2, "peer-01": 1})
    assert list(averages.by_round) == [1]
    assert not list(tmp_path.rglob("*.safetensors"))


def test_the_folder_of_a_peer_that_still_runs_stays_even_when_it_is_empty(tmp_path: Path) -> None:
    homes = homes_with(tmp_path, [0.0, 0.0, 0.0])
    averages = Averages(task(), homes, keep=False)
    averages.advance({"peer-00": 1})
    assert (homes["peer-00"] / "snapshots").is_dir()
    averages.finish()
    assert not (homes["peer-00"] / "snapshots").exists()


def test_rounds_that_not_all_reached_are_averaged_over_those_that_did(tmp_path: Path) -> None:
    homes = homes_with(tmp_path, [0.0, 0.0, 0.0], [1.0, 1.0, 1.0])
    (homes["peer-01"] / "snapshots" / "round-00000001.safetensors").write_bytes(b"torn")
    averages = Averages(task(), homes, keep=True)
    averages.finish()
    assert averages.by_round[1].peers == 1
    assert (homes["peer-00"] / "snapshots" / "round-00000001.safetensors").exists()
