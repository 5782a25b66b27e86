"""Adapters in PEFT's format: tensors and settings by the names that peft.PeftModel reads, for the same outputs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import safetensors.torch
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional

from gossip.errors import SettingError
from gossip.inference import peft_files
from gossip.learning import adapters, peft_start
from gossip.learning.adapter_settings import AdapterSettings


class Pretrained(nn.Module):
    """Looks like a model of the transformers library."""

    config = None

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 6)
        self.conv = nn.Conv1d(6, 5, 3, padding=1)
        self.dense = nn.Linear(5, 5)
        self.score = nn.Linear(5, 3)

    def save_pretrained(self) -> None:
        """Never called."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.score(self.dense(self.conv(self.table(x).mT).mT).tanh())


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = Pretrained()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


def written(folder: Path, train: str) -> tuple[nn.Module, dict[str, torch.Tensor], dict]:
    network = Outer()
    targets = ("*.table", "*.conv", "*.dense")
    adapters.adapt(network, AdapterSettings(kind="lora", train=train, rank=6, targets=targets), seed=0)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.normal_()
    peft_files.write(network, folder / "peft", base="base.safetensors")
    tensors = safetensors.torch.load_file(folder / "peft" / "adapter_model.safetensors")
    return network, tensors, json.loads((folder / "peft" / "adapter_config.json").read_text())


@pytest.mark.parametrize("train", ["R", "B", "AB"])
def test_what_the_file_says_is_what_the_network_computes(tmp_path: Path, train: str) -> None:
    network, tensors, config = written(tmp_path, train)
    base, x = network.model, torch.randint(7, (2, 4))
    prefix = "base_model.model."

    def scaled(name: str) -> float:
        rank = config["rank_pattern"].get(name, config["r"])
        return config["alpha_pattern"].get(name, config["lora_alpha"]) / rank

    first, second = (tensors[f"{prefix}table.lora_embedding_{each}"] for each in "AB")
    h = base.table.base(x) + scaled("table") * functional.embedding(x, first.T) @ second.T
    first, second = (tensors[f"{prefix}conv.lora_{each}.weight"] for each in "AB")
    beside = functional.conv1d(functional.conv1d(h.mT, first, padding=1), second)
    h = functional.conv1d(h.mT, base.conv.weight, tensors[f"{prefix}conv.base_layer.bias"], padding=1)
    h = (h + scaled("conv") * beside).mT
    first, second = (tensors[f"{prefix}dense.lora_{each}.weight"] for each in "AB")
    beside = scaled("dense") * h @ first.T @ second.T
    h = functional.linear(h, base.dense.weight, tensors[f"{prefix}dense.base_layer.bias"]) + beside
    y = functional.linear(h.tanh(), tensors[f"{prefix}score.weight"], tensors[f"{prefix}score.bias"])
    torch.testing.assert_close(y, network(x), rtol=1e-4, atol=1e-4)
    assert config["modules_to_save"] == ["score"]
    assert config["target_modules"] == ["conv", "dense", "table"]
    assert (config["peft_type"], config["bias"], config["base_model_name_or_path"]) == (
        "LORA", "lora_only", "base.safetensors"
    )  # fmt: skip
    assert len(tensors) == 10, "the adapters, their biases and the last layer, and nothing of the base"


def test_adapters_begin_with_what_such_a_folder_holds(tmp_path: Path) -> None:
    network, _, _ = written(tmp_path, "AB")
    other = Outer()
    with torch.no_grad():
        for name, tensor in other.state_dict().items():
            if not name.startswith("model.score") and not name.endswith("bias"):
                tensor.copy_(network.state_dict()[name])
    targets = ("*.table", "*.conv", "*.dense")
    settings = AdapterSettings(kind="lora", train="AB", rank=6, targets=targets, scale=0.5)
    adapters.adapt(other, settings, seed=1)
    peft_start.begin(other, settings, tmp_path / "peft")
    x = torch.randint(7, (2, 4))
    torch.testing.assert_close(other(x), network(x), rtol=1e-4, atol=1e-4)


def test_a_folder_of_other_adapters_is_a_sentence(tmp_path: Path) -> None:
    written(tmp_path, "AB")

    def begin(folder: str, **settings: object) -> None:
        network = Outer()
        chosen = AdapterSettings(**{"kind": "lora", "train": "AB", "rank": 6, **settings})
        adapters.adapt(network, chosen, seed=0)
        peft_start.begin(network, chosen, tmp_path / folder)

    with pytest.raises(SettingError, match="is no readable folder with"):
        begin("none")
    with pytest.raises(SettingError, match=r"'.*table.lora_embedding_A' is of no adapted layer"):
        begin("peft", targets=("*.conv", "*.dense"))
    with pytest.raises(
        SettingError, match=r"'model.table.lora_A' has shape \(6, 7\); the network's is \(2, 7\)"
    ):
        begin("peft", targets=("*.table", "*.conv", "*.dense"), rank=2)
    with pytest.raises(SettingError, match=r"lacks '.*score.lora_A.weight'"):
        begin("peft", targets=("*.table", "*.conv", "*.dense", "*.score"))
    config = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    for wrong, said in (
        ({"peft_type": "IA3"}, "is not of peft_type = 'LORA'"),
        ({"use_dora": True}, "use_dora = true is not known here"),
    ):
        (tmp_path / "peft" / "adapter_config.json").write_text(json.dumps({**config, **wrong}))
        with pytest.raises(SettingError, match=said):
            begin("peft")
    with pytest.raises(ValidationError, match="learns between two frozen factors of its own"):
        begin("peft", train="R", start="peft")


def test_names_that_are_ends_of_others_are_a_pattern(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3)), nn.Linear(3, 2))
    adapters.adapt(network, AdapterSettings(kind="lora", targets=("0",)), seed=0)
    peft_files.write(network, tmp_path, base=None)
    targets = json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]
    assert [name for name, _ in network.named_modules() if re.fullmatch(targets, name)] == ["0"]


def test_what_peft_cannot_have_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="the network has no adapters"):
        peft_files.write(nn.Linear(2, 2), tmp_path, base=None)
    network = nn.Sequential(nn.Conv2d(1, 2, 3, dilation=2), nn.Flatten(), nn.Linear(2, 2))
    adapters.adapt(network, AdapterSettings(kind="lora"), seed=0)
    with pytest.raises(SettingError, match=r"'0' is a convolution with .* dilation = \(2, 2\)"):
        peft_files.write(network, tmp_path, base=None)
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    adapters.adapt(network, AdapterSettings(kind="lora"), seed=0)
    network[0].weight.requires_grad_(True)
    with pytest.raises(SettingError, match=r"'0\.weight' has learnt beside its own adapter"):
        peft_files.write(network, tmp_path, base=None)
