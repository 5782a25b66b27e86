"""Parts of a network: what is learnt together, what stays with a peer, what stays as it is, and what it begins with."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

import scenarios
from gossip.errors import SettingError
from gossip.learning import parts
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.learning.task import Task
from gossip.parameters import Role

OWN = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh())
        self.head = nn.Linear(8, classes)
        self.register_buffer("shift", torch.ones(8))
    def forward(self, x):
        return self.head(self.body(x) + self.shift)

def net(shape, classes): return Net(classes)
"""
ALL = {"body.1.weight", "body.1.bias", "head.weight", "head.bias"}


def task(folder: Path, *, seed: int = 0, name: str = "python:own.py:net", **model: object) -> Task:
    (folder / "own.py").write_text(OWN)
    return Task(
        data=DataSettings(train_max=60, test_max=30),
        model=ModelSettings(name=name, **model),
        local=LocalSettings(lr=0.2, epochs=2),
        seed=seed,
        folder=folder,
    )


def names(task: Task, *roles: Role) -> set[str]:
    return {slot.name for slot in task.space.slots_of(*roles)}


@pytest.mark.parametrize(
    ("settings", "learned", "private", "frozen"),
    [
        ({}, ALL, set(), set()),
        ({"private": ["head.*"]}, {"body.1.weight", "body.1.bias"}, {"head.weight", "head.bias"}, set()),
        ({"learned": ["head.*"]}, {"head.weight", "head.bias"}, set(), {"body.1.weight", "body.1.bias"}),
        (
            {"frozen": ["*.bias", "shift"]},
            {"body.1.weight", "head.weight"},
            set(),
            {"body.1.bias", "head.bias", "shift"},
        ),
        (
            {"learned": ["body.*"], "private": ["head.weight"]},
            {"body.1.weight", "body.1.bias"},
            {"head.weight"},
            {"head.bias"},
        ),
        ({"learned": ["*"], "frozen": ["head.bias"]}, ALL - {"head.bias"}, set(), {"head.bias"}),
    ],
)
def test_the_most_particular_of_the_patterns_decides(
    tmp_path: Path, settings: dict, learned: set[str], private: set[str], frozen: set[str]
) -> None:
    chosen = task(tmp_path, **settings)
    chosen.check()
    assert names(chosen, Role.LEARNED) == learned
    assert names(chosen, Role.PRIVATE) == private
    assert names(chosen, Role.FROZEN) == frozen


def test_what_is_private_is_trained_and_not_sent_and_what_is_frozen_is_neither(tmp_path: Path) -> None:
    chosen = task(tmp_path, private=["head.*"], frozen=["body.1.bias"])
    start = chosen.initial()
    trained = chosen.local_training().run(
        start, chosen.x_train, chosen.dataset.y_train, seed=0, peer="a", round=0
    )
    learned = chosen.space.learned_size
    assert learned == 64 * 8
    assert chosen.describe()["message_bytes"] == 4 * learned
    assert not torch.equal(
        trained.model[learned : chosen.space.trained_size], start[learned : chosen.space.trained_size]
    )
    assert torch.equal(
        chosen.frozen["body.1.bias"], task(tmp_path, frozen=["body.1.bias"]).frozen["body.1.bias"]
    )


def test_patterns_work_for_networks_of_ours_and_behind_an_extractor(tmp_path: Path) -> None:
    ours = task(tmp_path, name="mlp", private=["3.*"])
    assert names(ours, Role.PRIVATE) == {"3.weight", "3.bias"}
    behind = task(
        tmp_path, name="mlp", extractor="random-features", features=12, learned=["1.*"], private=["3.weight"]
    )
    behind.check()
    assert names(behind, Role.LEARNED) == {"head.1.weight", "head.1.bias"}
    assert names(behind, Role.PRIVATE) == {"head.3.weight"}
    assert "head.3.bias" in names(behind, Role.FROZEN)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"private": ["haed.*"]}, r"private = 'haed\.\*' matches no tensor"),
        ({"learned": ["nothing"]}, "learned = 'nothing' matches no tensor"),
        ({"private": ["shift"]}, "'shift' is a buffer"),
        ({"private": ["*.weight", "*.bias"]}, "no parameter to learn"),
        ({"start": "none.safetensors"}, "there is no file"),
        ({"start": "own.py"}, "is not a readable .safetensors file"),
    ],
)
def test_what_makes_no_sense_is_a_sentence(tmp_path: Path, settings: dict, sentence: str) -> None:
    with pytest.raises(SettingError, match=sentence):
        task(tmp_path, **settings).check()


def started(folder: Path, name: str = "start.safetensors", **tensors: torch.Tensor) -> Path:
    safetensors.torch.save_file(tensors, folder / name)
    return folder / name


def test_a_network_begins_with_the_tensors_of_a_file_and_peers_agree_on_its_content(tmp_path: Path) -> None:
    path = started(tmp_path, **{"head.weight": torch.full((10, 8), 0.5), "other": torch.ones(1)})
    chosen = task(tmp_path, start="start.safetensors")
    slot = chosen.space.slot("head.weight")
    for peer in (None, "a"):
        assert torch.equal(chosen.initial(peer)[slot.offset : slot.end], torch.full((80,), 0.5))
    assert not torch.equal(chosen.initial("a"), chosen.initial("b")), "what the file lacks is drawn"
    plain = task(tmp_path)
    assert chosen.space.space_id != plain.space.space_id
    moved = started(
        tmp_path, "moved.safetensors", **{"head.weight": torch.full((10, 8), 0.5), "other": torch.ones(1)}
    )
    assert task(tmp_path, start=str(moved)).space.space_id == chosen.space.space_id
    other = started(tmp_path, "other.safetensors", **{"head.weight": torch.full((10, 8), 0.4)})
    assert task(tmp_path, start=str(other)).space.space_id != chosen.space.space_id
    task(tmp_path, start=str(path), start_hash=parts.hash_of(path)).check()
    with pytest.raises(SettingError, match="but the task pins start_hash"):
        task(tmp_path, start=str(path), start_hash="0" * 32).check()


def test_a_file_of_another_network_is_a_sentence(tmp_path: Path) -> None:
    started(tmp_path, **{"head.weight": torch.ones(10, 9)})
    with pytest.raises(SettingError, match=r"'head.weight' has shape \(10, 9\); the network's is \(10, 8\)"):
        task(tmp_path, start="start.safetensors").check()
    started(tmp_path, **{"tail.weight": torch.ones(10, 9)})
    with pytest.raises(SettingError, match=r"no tensor of .* is called as one of the network"):
        task(tmp_path, start="start.safetensors").check()


def test_peers_have_heads_of_their_own_and_a_body_in_common_in_both_engines(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "heads.toml").write_text(
        '[scenario]\npeers = 3\nalgorithm = "dfedavg"\n[data]\ntrain_max = 90\ntest_max = 60\n'
        '[model]\nname = "python:own.py:net"\nprivate = ["head.*"]\n[local]\nlr = 0.2\n'
        '[topology]\nkind = "full"\n[stop]\nrounds = 3\n'
    )
    found = {}
    for engine in ("virtual", "processes"):
        folder = tmp_path / engine
        found[engine] = scenarios.run(tmp_path / "heads.toml", engine=engine, out=folder, report=False)
        states = [
            safetensors.torch.load_file(folder / "peers" / f"peer-0{n}" / "model.safetensors")
            for n in range(3)
        ]
        assert torch.allclose(states[0]["body.1.weight"], states[1]["body.1.weight"], atol=1e-6)
        assert not torch.allclose(states[0]["head.weight"], states[1]["head.weight"], atol=1e-3)
    accuracies = [[peer["score"] for peer in run.peers] for run in found.values()]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=1e-6)


@pytest.mark.parametrize("value", [float("nan"), 1e300])
def test_a_start_that_is_not_finite_is_a_sentence(tmp_path: Path, value: float) -> None:
    started(tmp_path, **{"head.bias": torch.full((10,), value, dtype=torch.float64)})
    with pytest.raises(SettingError, match=r"'head.bias' holds what is not finite in torch.float32"):
        task(tmp_path, start="start.safetensors").check()
