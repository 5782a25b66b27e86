"""Where a peer's learning computes: the device that is asked for, or a sentence; and the same numbers on each."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gossip import cli
from gossip.config import load_task
from gossip.draws import Draws
from gossip.errors import SettingError
from gossip.learner import Learner
from gossip.learning import devices
from gossip.learning.devices import Transfers
from gossip.learning.local_training import LocalTraining
from gossip.learning.pace import measure
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.learning.task import Task
from gossip.merging import Average
from gossip.merging.settings import MERGES
from gossip.outgoing.base import Outgoing
from gossip.protocols.base import Contribution, GossipStep
from tests.integration.homes import make_homes
from tests.other_device import OTHER, Elsewhere, other_device

MODULE = """
from torch import nn

def make(input_shape, classes):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.3), nn.Linear(12, classes)
    )
"""
CUDA = torch.device("cuda")
without_a_card = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card here")
UPDATES: dict[str, dict[str, Any]] = {
    "sgd": {},
    "sam": {"sam_rho": 0.2, "momentum": 0.9, "keep_momentum": True, "weight_decay": 1e-3},
    "adaptive-sam": {"sam_rho": 0.5, "sam": "adaptive", "clip_norm": 1.0},
    "adamw": {"optimizer": {"kind": "adamw", "keep_moments": True}, "lr": 0.01},
    "quasi-global": {"optimizer": {"kind": "quasi-global"}, "momentum": 0.9},
}


NEEDED = {
    "balance": {"horizon": 10},
    "centered-clipping": {"tau": 1.0},
    "self-centered-clipping": {"tau": 1.0},
}
"""What rules cannot do without."""


class Halved(Outgoing):
    """Sends half of each model."""

    def send(self, learned: Tensor, rows: Any, draws: Any) -> Any:
        return 0.5 * learned, rows


def make_task(folder: Path, model: ModelSettings | None = None, **local: Any) -> Task:
    (folder / "own.py").write_text(MODULE)
    data = DataSettings(train_max=120, test_max=50, validation_per_class=2)
    return Task(
        data=data,
        model=model or ModelSettings(hidden=(8,)),
        local=LocalSettings(**local),
        seed=3,
        folder=folder,
    )


def learner_of(task: Task, device: str, **given: Any) -> Learner:
    return Learner(task, peer="p", position=0, peers=2, device=device, **{"merge": Average(), **given})


def life(learner: Learner) -> list[Tensor]:
    """Two local updates with a merge between, and what is measured and sent; all of it on the CPU."""
    learned = learner.task.space.learned_size
    first = learner.train(learner.initial(), round=0)
    others = [learner.initial()[:learned] + 0.01 * k * torch.cos(torch.arange(learned)) for k in range(1, 6)]
    received = [Contribution(f"q{k}", other, 1 / 6) for k, other in enumerate(others)]
    merged = learner.merge(first.model, 1 / 6, received, at=GossipStep(0))
    second = learner.train(merged.clone(), round=1, in_place=True)
    measured = learner.evaluate(second.model)
    sent = learner.outgoing(second.model[:learned], Draws(0, "p", 0))
    figures = torch.tensor([first.loss, second.loss, measured.loss, measured.score])
    return [first.model, merged, second.model, sent, figures, *learner.state.export(0).values()]


def assert_the_same_life(make: Any, *, exact: bool = True) -> None:
    here = life(make("cpu"))
    with other_device():
        learner = make(OTHER)
        assert isinstance(learner._x, Elsewhere), "it computes there"
        there = life(learner)
    assert len(here) == len(there)
    for one, other in zip(here, there, strict=True):
        assert type(other) is Tensor, "what comes back lies on the CPU"
        assert torch.equal(one, other) if exact else torch.allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("update", UPDATES)
def test_every_update_learns_on_another_device_what_it_learns_on_the_cpu(update: str, tmp_path: Path) -> None:
    task = make_task(tmp_path, **{"lr": 0.05, "steps": 4, **UPDATES[update]})
    assert_the_same_life(lambda device: learner_of(task, device, outgoing=Halved()))


@pytest.mark.parametrize("batch_norm", ["local", "reestimate"])
def test_a_users_network_with_dropout_and_statistics_too(batch_norm: Any, tmp_path: Path) -> None:
    model = ModelSettings(name="python:own.py:make", batch_norm=batch_norm)
    task = make_task(tmp_path, model, steps=4)
    assert_the_same_life(lambda device: learner_of(task, device))


@pytest.mark.parametrize("kind", MERGES.kinds())
def test_every_merge_rule_merges_there_what_it_merges_on_the_cpu(kind: str, tmp_path: Path) -> None:
    choice = MERGES.settings_for(kind)
    needed = {"f": 1} if getattr(choice, "needs_f", False) else NEEDED.get(kind, {})
    settings = choice.model_validate({"kind": kind, **needed})
    model, local = None, {}
    if kind == "bristle":
        model = ModelSettings(name="linear", extractor="random-features", features=16)
        local = {"consolidate": "familiar"}
    if kind in ("lora-fair", "product"):
        model = ModelSettings.model_validate({"adapter": {"kind": "lora", "train": "AB"}})
    task = make_task(tmp_path, model, steps=2, **local)
    assert_the_same_life(lambda device: learner_of(task, device, merge=settings.load()(settings)))


def test_convolutions_on_a_card_are_not_rounded_to_less_than_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    devices.round_as_told(torch.device("cpu"))
    assert torch.backends.cudnn.allow_tf32, "what is none of a node's business stays"
    devices.round_as_told(CUDA)
    assert not torch.backends.cudnn.allow_tf32


def test_training_sending_and_evaluation_compute_there_and_merges_where_models_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, type] = {}

    def note(owner: type, name: str, place: int = 1) -> None:
        method = getattr(owner, name)

        def noted(*given: Any, **more: Any) -> Any:
            seen[name] = type(given[place])
            return method(*given, **more)

        monkeypatch.setattr(owner, name, noted)

    for owner, name in (
        (LocalTraining, "run"),
        (Average, "__call__"),
        (Halved, "send"),
        (Task, "evaluate"),
        (Task, "reestimated"),
    ):
        note(owner, name)
    task = make_task(tmp_path, ModelSettings(name="python:own.py:make", batch_norm="reestimate"), steps=1)
    with other_device():
        learner = learner_of(task, OTHER, outgoing=Halved())
        life(learner)
        assert {type(each) for each in (learner._x, learner._y)} == {Elsewhere}, "they are there already"
    assert seen == {
        **dict.fromkeys(("run", "send", "evaluate", "reestimated"), Elsewhere),
        "__call__": Tensor,
    }


def test_what_is_measured_of_the_pace_is_measured_there(tmp_path: Path) -> None:
    task = make_task(tmp_path, steps=2)
    with other_device():
        learner = learner_of(task, OTHER)
        assert measure(task, learner.shard, device=learner.device, budget_s=0.5).seconds > 0


def test_the_other_device_of_these_tests_refuses_what_a_real_one_refuses() -> None:
    with other_device():
        there = torch.ones(3).to(OTHER)
        with pytest.raises(AssertionError, match="on meta and on the CPU"):
            there + torch.ones(3)
        assert torch.equal((there + torch.tensor(1.0)).cpu(), torch.full((3,), 2.0))


@pytest.mark.parametrize(
    ("there", "wanted", "found"),
    [
        ((), "auto", "cpu"),
        (("cuda",), "auto", "cuda"),
        (("mps",), "auto", "mps"),
        (("cuda", "mps"), "auto", "cuda"),
        (("cuda", "mps"), "mps", "mps"),
        (("cuda",), "cpu", "cpu"),
        ((), "cuda", "device = 'cuda': there is none here; valid here: auto, cpu"),
        (("cuda",), "mps", "device = 'mps': there is none here; valid here: auto, cpu, cuda"),
        (("mps",), "cuda", "device = 'cuda': there is none here; valid here: auto, cpu, mps"),
    ],
)
def test_auto_takes_cuda_then_mps_then_the_cpu_and_what_is_not_there_is_said(
    monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...], wanted: str, found: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in there)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in there)
    tried: list[str] = []
    empty = torch.empty

    def pretend(*size: int, device: str) -> Tensor:
        tried.append(device)
        return empty(*size)

    monkeypatch.setattr(torch, "empty", pretend)
    if ":" in found:
        with pytest.raises(SettingError) as caught:
            devices.find(wanted)
        assert (str(caught.value), tried) == (found, [])
    else:
        devices.find(wanted)
        assert tried == [found]


@without_a_card
def test_one_that_is_there_and_fails_is_one_sentence_and_not_torchs_assertion(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        torch.cuda, "is_available", lambda: True
    )  # this build of torch asserts that it is none
    with pytest.raises(SettingError) as caught:
        devices.find("cuda", where="--device")
    sentence = str(caught.value)
    assert sentence.startswith("--device = 'cuda': it is there but cannot be used (")
    assert sentence.endswith("; valid here: auto, cpu")
    assert "\n" not in sentence


@pytest.fixture
def where(tmp_path: Path) -> Any:
    make_homes(tmp_path, ("alice",))
    yield ["--peers", str(tmp_path / "peers.txt"), "--home", str(tmp_path / "alice")]
    logging.getLogger("gossip").handlers.clear()


@pytest.mark.parametrize("command", [[], ["check"]])
@without_a_card
@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (
            ["--device", "cuda"],
            "command line: [node] device = 'cuda': there is none here; valid here: auto, cpu",
        ),
        (["--set", "node.device=mps"], "[node] device = 'mps': there is none here; valid here: auto, cpu"),
        (["--device", "gpu"], "device = 'gpu': must be 'auto', 'cpu', 'cuda' or 'mps'"),
        (["--device", "meta"], "device = 'meta': must be 'auto', 'cpu', 'cuda' or 'mps'"),
    ],
)
def test_a_device_that_is_not_there_is_exit_2_before_anything_is_learnt(
    where: list[str], capsys: pytest.CaptureFixture[str], command: list[str], option: list[str], sentence: str
) -> None:
    assert cli.run([*command, *where, *option]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gossip-node: ")]
    assert len(said) == 1
    assert sentence in said[0]


def test_a_node_learns_on_the_device_that_was_found(
    where: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    make = Learner.__init__

    def watched(self: Learner, *given: Any, device: Any, **more: Any) -> None:
        made.append(device)
        make(self, *given, device="cpu", **more)

    monkeypatch.setattr(devices, "find", lambda wanted, *, where: f"found for {wanted}")
    monkeypatch.setattr(Learner, "__init__", watched)
    options = ["--rounds", "1", "--set", "local.epochs=1", "--set", "topology.kind=full"]
    for device in ([], ["--device", "auto"]):
        assert cli.run(["check", *where, *options, *device]) == 0
    assert made == ["found for cpu", "found for auto"]


def test_peers_on_different_devices_are_of_one_run() -> None:
    assert load_task(overrides=["node.device=cuda"]).run_id() == load_task().run_id()


def test_what_comes_back_from_cuda_lies_in_pinned_memory_and_goes_there_without_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As far as that can be told without one: what is asked of torch."""
    asked: list[dict[str, Any]] = []

    @dataclasses.dataclass
    class Fake:
        pinned: bool = False
        device: torch.device = CUDA
        shape: tuple[int, ...] = (3,)
        dtype: torch.dtype = torch.float32

        def is_pinned(self) -> bool:
            return self.pinned

        def to(self, device: torch.device, **how: Any) -> None:
            asked.append({"to": device.type, **how})

        def copy_(self, other: Any) -> Fake:
            asked.append({"copied": other})
            return self

    def empty(shape: Any, **how: Any) -> Fake:
        asked.append(how)
        return Fake(pinned=how.get("pin_memory", False), device=torch.device("cpu"))

    monkeypatch.setattr(torch, "empty", empty)
    transfers = Transfers(CUDA)
    result: Any = Fake()
    back: Any = transfers.back(result)
    assert asked == [{"dtype": torch.float32, "pin_memory": True}, {"copied": result}]
    asked.clear()
    transfers.there(back)
    transfers.there(Fake())  # type: ignore[arg-type]
    assert asked == [{"to": "cuda", "non_blocking": True}, {"to": "cuda", "non_blocking": False}]


def test_on_the_cpu_nothing_is_copied() -> None:
    x = torch.ones(3)
    transfers = Transfers(torch.device("cpu"))
    assert transfers.there(x) is x
    assert transfers.back(x) is x
