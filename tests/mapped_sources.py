"""The same few samples in every source whose samples may be mapped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.learning.task import Task
from gossip.learning.trained import Trained

OWN = {"partition": {"kind": "own"}}
RNG = np.random.default_rng(0)
COUNT = 53
IMAGES = RNG.integers(0, 256, (COUNT, 5, 7), dtype=np.uint8)
NUMBERS = RNG.normal(size=(COUNT, 7))
Y = np.arange(COUNT) % 3

FUNCTIONS = """
import threading
import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

class Pairs(Dataset):
    def __init__(self, path): self.data = np.load(path)
    def __len__(self): return len(self.data["y"])
    def __getitem__(self, i): return torch.from_numpy(self.data["x"][i] / 2), int(self.data["y"][i])

class Drawing(Pairs):
    def __getitem__(self, i):
        assert threading.current_thread() is threading.main_thread()
        return torch.rand(2) + np.random.rand(), i % 2

def pairs(path): return Pairs(path)
def stream(path): return iter([(np.zeros(2), 0)] * 9)
def drawing(path): return Drawing(path)
def memmap(path):
    data = np.load(path)
    return {"x": np.load(path + ".x.npy", mmap_mode="r"), "y": data["y"]}
def normed(input_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(35, 6), nn.BatchNorm1d(6), nn.Linear(6, classes))
def looking_up(input_shape, classes):
    return nn.Sequential(nn.Embedding(2**7, 2), nn.Flatten(), nn.Linear(2 * input_shape[0], classes))
"""


def written(tmp_path: Path) -> Path:
    """Write them as archives, as folders of arrays and of images, and behind a user's functions; return the folder."""
    for name, x in (("images", IMAGES), ("numbers", NUMBERS), ("fortran", np.asfortranarray(NUMBERS))):
        np.savez(tmp_path / f"{name}.npz", x=x, y=Y)
        np.savez_compressed(tmp_path / f"{name}-small.npz", x=x, y=Y)
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "x.npy", x)
        np.save(tmp_path / name / "y.npy", Y)
    np.save(tmp_path / "numbers.npz.x.npy", NUMBERS)
    np.savez(tmp_path / "four.npz", x_train=IMAGES, y_train=Y, x_test=IMAGES[:9], y_test=Y[:9])
    (tmp_path / "mine.py").write_text(FUNCTIONS)
    for place, image in enumerate(IMAGES):
        path = tmp_path / "pictures" / "abc"[Y[place]] / f"{place:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return tmp_path


def task(
    folder: Path, source: str, *, mapped: object, model: Any = None, local: Any = None, **data: Any
) -> Task:
    return Task(
        data=DataSettings(source=source, mapped=mapped, **data),
        model=ModelSettings(**(model or {"hidden": (9,)})),
        local=LocalSettings(**({"batch_size": 8, "epochs": 2, "momentum": 0.9} | (local or {}))),
        seed=3,
        folder=folder,
    )


def function(name: str, folder: Path) -> dict[str, Any]:
    return {"source": f"python:mine.py:{name}", "arguments": {"path": str(folder / "numbers.npz")}}


SOURCES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "archive of bytes": lambda folder: {"source": "images.npz"},
    "archive of bytes, as they are": lambda folder: {"source": "images.npz", "scaling": "none"},
    "archive of numbers": lambda folder: {"source": "numbers.npz"},
    "archive, columns first": lambda folder: {"source": "fortran.npz"},
    "archive with a test set": lambda folder: {"source": "four.npz"},
    "folder of bytes": lambda folder: {"source": "images"},
    "folder of numbers": lambda folder: {"source": "numbers"},
    "folder of images": lambda folder: {"source": "pictures", "image_mode": "L"},
    "images scaled": lambda folder: {"source": "pictures", "image_size": (4, 4)},
    "memmap of a function": lambda folder: function("memmap", folder),
    "dataset of a function": lambda folder: function("pairs", folder),
    "some classes": lambda folder: {"source": "images.npz", "class_subset": (2, 0)},
    "some samples": lambda folder: {"source": "images.npz", "train_max": 20, "test_max": 5},
    "tested on others": lambda folder: {"source": "four.npz", "test_from_train": 0.3},
    "validated": lambda folder: {"source": "four.npz", "validation_per_class": 2},
}


def trained(task: Task, *, peers: int = 1) -> Trained:
    shard = task.shard(peers - 1, peers)
    return task.local_training().run(task.initial(), shard.x, shard.y, seed=1, peer="a", round=2)
