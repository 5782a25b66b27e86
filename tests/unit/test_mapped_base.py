"""A large base lies in its file: learning beside it is what it is beside a base in memory, and models leave it out."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

from gossip.errors import SettingError
from gossip.inference.description import described
from gossip.inference.loaded import load
from gossip.learning import adapters, mapped_base
from gossip.learning.adapter_settings import AdapterSettings
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.learning.task import Task
from gossip.storage.models import encode_model

WIDE = 1100
"""Features between two layers: 64 · 1100 numbers are large."""
OWN = f"""
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.wide = nn.Linear(64, {WIDE})
        self.shift = nn.Parameter(torch.full(({WIDE},), 0.5))
        self.last = nn.Linear({WIDE}, classes)
    def forward(self, x):
        return self.last(torch.relu(self.wide(x.flatten(1))) * self.shift)

def net(shape, classes): return Net(classes)

def stubborn(shape, classes):
    network = Net(classes)
    assert network.wide.weight.sum().item() != 0
    return network
"""


def task(folder: Path, *, name: str = "net", start: str = "base.safetensors", **adapter: object) -> Task:
    (folder / "own.py").write_text(OWN)
    return Task(
        data=DataSettings(train_max=60, test_max=30),
        model=ModelSettings(
            name=f"python:own.py:{name}", start=start, adapter=AdapterSettings(kind="lora", rank=4, **adapter)
        ),
        local=LocalSettings(lr=0.1),
        seed=0,
        folder=folder,
    )


def based(folder: Path, dtype: torch.dtype = torch.float32, **more: torch.Tensor) -> None:
    rng = torch.Generator().manual_seed(0)
    wide = (torch.randn(WIDE, 64, generator=rng) / 8).to(dtype)
    safetensors.torch.save_file({"wide.weight": wide, **more}, folder / "base.safetensors")


def trained(learning: Task) -> torch.Tensor:
    start, y = learning.initial(), learning.dataset.y_train
    return learning.local_training().run(start, learning.x_train, y, seed=0, peer="a", round=0).model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_mapped_base_learns_what_a_copied_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    last = {
        "last.weight": torch.ones(10, WIDE) / WIDE,
        "last.bias": torch.zeros(10),
        "wide.bias": torch.ones(WIDE),
    }
    based(tmp_path, dtype, shift=torch.full((WIDE,), 0.3), **last)
    mapped = task(tmp_path)
    mapped.check()
    assert mapped.module.wide.weight.dtype is dtype, "as in the file"
    found = trained(mapped)
    monkeypatch.setattr(mapped_base, "LARGE", 1 << 40)
    copied = task(tmp_path, dtype=str(dtype).removeprefix("torch."))
    torch.testing.assert_close(found, trained(copied), atol=1e-6, rtol=1e-5)
    assert torch.equal(mapped.frozen["wide.weight"], copied.frozen["wide.weight"])
    assert torch.equal(mapped.frozen["shift"], copied.frozen["shift"])


def test_a_network_that_looks_at_its_weights_while_it_is_made_is_made_with_them(tmp_path: Path) -> None:
    based(tmp_path)
    learning = task(tmp_path, name="stubborn")
    learning.check()
    assert torch.equal(learning.module.wide.weight, task(tmp_path).module.wide.weight)


def test_a_wrong_shape_or_number_in_a_large_base_is_a_sentence(tmp_path: Path) -> None:
    safetensors.torch.save_file({"wide.weight": torch.ones(WIDE, 65)}, tmp_path / "base.safetensors")
    with pytest.raises(SettingError, match=r"'wide.weight' has shape \(1100, 65\)"):
        task(tmp_path).check()
    safetensors.torch.save_file(
        {"wide.weight": torch.full((WIDE, 64), torch.nan)}, tmp_path / "base.safetensors"
    )
    with pytest.raises(SettingError, match=r"'wide\.weight' holds what is not finite"):
        task(tmp_path).check()


def test_a_models_file_leaves_the_base_to_its_own_and_is_read_with_it(tmp_path: Path) -> None:
    based(tmp_path)
    learning = task(tmp_path)
    model = trained(learning)
    about = described(learning, provenance={})
    file = encode_model(
        learning.space, model, peer="a", frozen=learning.frozen, about=about, without=learning.in_base
    )
    (tmp_path / "model.safetensors").write_bytes(file)
    assert "wide.weight" not in safetensors.torch.load(file)
    loaded = load(tmp_path / "model.safetensors", network=tmp_path / "own.py")
    assert set(adapters.adapted(loaded.module)) == {"wide"}
    there = learning.forward_on()(model, model[:0], learning.x_test)
    torch.testing.assert_close(loaded.logits(learning.x_test), there, atol=1e-5, rtol=1e-5)
    based(tmp_path, torch.bfloat16)
    with pytest.raises(SettingError, match="is not the base that they were learnt beside"):
        load(tmp_path / "model.safetensors", network=tmp_path / "own.py")
    (tmp_path / "base.safetensors").unlink()
    with pytest.raises(SettingError, match=r"there is no file .* with their base"):
        load(tmp_path / "model.safetensors", network=tmp_path / "own.py")
