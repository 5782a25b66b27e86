"""Finished models: all comes back from the file alone, samples are prepared as in training, formats agree."""

from __future__ import annotations

import csv
import importlib
import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

import gossip
from gossip import cli
from gossip.errors import DataError, SettingError
from gossip.inference import exporting
from gossip.inference.card import card
from gossip.inference.description import described, files_of
from gossip.inference.samples import read
from gossip.learning.data.preparation import Preparation
from gossip.learning.objectives.settings import OBJECTIVES
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings, OwnPartition
from gossip.learning.task import Task
from gossip.storage.models import encode_model
from gossip.storage.run_record import SOURCE

NETWORK = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.out = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, classes))
        self.register_buffer("passing", torch.ones(1), persistent=False)
    def forward(self, x):
        return self.out(x * self.passing)

def net(shape, classes): return Net(shape, classes)

class Next(nn.Module):
    def __init__(self, tokens):
        super().__init__()
        self.table, self.out = nn.Embedding(tokens, 4), nn.Linear(4, tokens)
    def forward(self, x):
        return self.out(self.table(x))

def following(shape, tokens): return Next(tokens)

class Wavering(Net):
    def forward(self, x):
        return self.out(x) if x.sum() > 1e9 else self.out(-x)

def wavering(shape, classes): return Wavering(shape, classes)
"""


def task_of(
    folder: Path,
    *,
    data: dict[str, Any] | None = None,
    objective: str = "classification",
    steps: int = 5,
    **model: Any,
) -> Task:
    (folder / "net.py").write_text(NETWORK)
    return Task(
        data=DataSettings.model_validate(
            {"partition": OwnPartition(), **(data or {"train_max": 80, "test_max": 40})}
        ),
        model=ModelSettings(**model),
        local=LocalSettings(lr=0.1, steps=steps),
        seed=3,
        folder=folder,
        objective=OBJECTIVES.validate({"kind": objective}),
    )


def finished(task: Task, path: Path) -> torch.Tensor:
    """Train a little, write the file as a node does, and return the vector."""
    x, y = task.x_train, task.dataset.y_train
    vector = task.local_training().run(task.initial(), x, y, seed=0, peer="a", round=0).model
    came = {
        "peer": "a",
        "peers": ["a", "b"],
        "rounds": 1,
        "algorithm": "dfedavg",
        "run_id": "0",
        "samples": len(y),
    }
    about = described(task, provenance=came)
    path.write_bytes(encode_model(task.space, vector, peer="a", frozen=task.frozen, about=about))
    if files_of(task):
        (path.parent / SOURCE).write_text(json.dumps({"model": files_of(task)}))
    return vector


@pytest.mark.parametrize(
    "model",
    [
        {"name": "cnn"},
        {"name": "mlp", "hidden": (5, 4)},
        {"name": "python:net.py:net"},
        {"name": "linear", "extractor": "random-features", "features": 30},
    ],
    ids=str,
)
def test_a_model_comes_back_from_its_file_and_evaluates_as_on_its_peer(tmp_path: Path, model: dict) -> None:
    task = task_of(tmp_path, **model)
    vector = finished(task, tmp_path / "model.safetensors")
    loaded = gossip.load(tmp_path)
    wanted = task.evaluate(vector)
    told = loaded.evaluate(task.dataset.x_test, task.dataset.y_test)
    assert told["accuracy"] == pytest.approx(wanted.score)
    assert told["loss"] == pytest.approx(wanted.loss, rel=1e-4)
    assert (
        loaded.predict(task.dataset.x_test).tolist() == loaded.logits(task.dataset.x_test).argmax(1).tolist()
    )
    assert not loaded.module.training
    assert loaded.provenance["peers"] == ["a", "b"]
    assert "torch" in loaded.provenance["versions"]


def saved(folder: Path, **arrays: np.ndarray) -> dict[str, Any]:
    np.savez(folder / "d.npz", **arrays)
    return {"source": "d.npz"}


def test_bytes_and_planes_are_prepared_as_in_training(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 256, (40, 8, 8), dtype=np.uint8), np.arange(40) % 4
    data = saved(tmp_path, x_train=x, y_train=y, x_test=x[:8], y_test=y[:8])
    task = task_of(tmp_path, data=data, name="cnn")
    vector = finished(task, tmp_path / "model.safetensors")
    loaded = gossip.load(tmp_path / "model.safetensors")
    assert torch.equal(loaded.prepared(x[:8]), task.dataset.x_test)
    assert torch.equal(loaded.prepared(x[:8].astype(np.float32) / 255), task.dataset.x_test)
    assert torch.equal(loaded.prepared(task.dataset.x_test), task.dataset.x_test)
    assert loaded.evaluate(x[:8], y[:8])["accuracy"] == pytest.approx(task.evaluate(vector).score)
    with pytest.raises(DataError, match=r"a sample has shape \(1, 8, 7\); the model takes \(1, 8, 8\)"):
        loaded.predict(np.zeros((3, 8, 7)))
    with pytest.raises(DataError, match="numbers are needed"):
        loaded.predict(np.array([["a"]]))


def test_tokens_stay_whole(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 9, (30, 5))
    data = saved(tmp_path, x_train=x, y_train=(x + 1) % 9, x_test=x[:6], y_test=(x[:6] + 1) % 9)
    task = task_of(tmp_path, data=data, objective="sequence", name="python:net.py:following")
    vector = finished(task, tmp_path / "model.safetensors")
    loaded = gossip.load(tmp_path)
    assert loaded.evaluate(x[:6], (x[:6] + 1) % 9)["perplexity"] == pytest.approx(task.evaluate(vector).score)
    assert loaded.predict(x[:6]).shape == (6, 5)


TABLE = "age,kind,told\n" + "".join(f"{20 + i},{'ab'[i % 2]},{('no', 'yes')[i % 2]}\n" for i in range(40))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "rows.csv").write_text(TABLE)
    data = {
        "source": "rows.csv",
        "target": "told",
        "categories": {"kind": ["a", "b"]},
        "class_names": ["no", "yes"],
        "standardise": "own",
    }
    task = task_of(tmp_path, data=data, steps=200, name="logistic")
    finished(task, tmp_path / "model.safetensors")
    return tmp_path


def test_a_table_is_read_with_the_columns_and_statistics_of_the_training(
    table: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(table)
    (table / "new.csv").write_text("kind,other,age\nb,1,25\na,2,61\n")
    assert (
        cli.run(["predict", "--home", str(table), "--data", "new.csv", "--out", str(table / "told.csv")]) == 0
    )
    rows = list(csv.DictReader((table / "told.csv").read_text().splitlines()))
    assert [row["prediction"] for row in rows] == ["yes", "no"]
    assert all(0.5 <= float(row["probability"]) <= 1 for row in rows)
    assert cli.run(["evaluate", "--home", str(table), "--data", "rows.csv", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["samples"], told["objective"]) == (40, "accuracy")
    assert told["accuracy"] > 0.95
    assert cli.run(["evaluate", "--home", str(table), "--data", "rows.csv"]) == 0
    shown = capsys.readouterr().out
    assert "yes" in shown
    assert "recall" in shown
    assert cli.run(["evaluate", "--home", str(table), "--data", "new.csv"]) == 4
    assert "has no targets to compare with; there is no column 'told'" in capsys.readouterr().err


def test_without_a_home_named_it_is_that_of_the_node(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".gossip-node").mkdir()
    finished(task_of(tmp_path), tmp_path / ".gossip-node" / "model.safetensors")
    assert cli.run(["evaluate", "--data", "digits", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == str(
        tmp_path / ".gossip-node" / "model.safetensors"
    )


def test_whole_numbers_are_shown_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(task_of(tmp_path), tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, x=np.zeros((12345, 1, 8, 8), dtype=np.float32), y=np.zeros(12345, dtype=np.int64))
    assert cli.run(["evaluate", "--home", ".", "--data", "d.npz"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("model.safetensors: 12345 samples\n")
    assert "│ 12345 " in shown
    assert "│ accuracy " in shown
    assert "│ AUC " in shown


def test_of_a_folder_with_images_to_train_and_to_test_on_the_latter_are_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    draw = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 3)):
        for name in "ab":
            (tmp_path / "images" / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / part / name / f"{number}.png")
    data = {"source": "images", "class_names": ["a", "b"], "image_mode": "L"}
    task = task_of(tmp_path, data=data, name="cnn")
    vector = finished(task, tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)

    def told(folder: str) -> dict[str, Any]:
        assert cli.run(["evaluate", "--home", ".", "--data", folder, "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    assert told("images")["samples"] == 6
    assert told("images")["loss"] == pytest.approx(task.evaluate(vector).loss, rel=1e-4)
    assert told("images/train")["samples"] == 12


@pytest.mark.parametrize("format", ["safetensors", "state-dict", "torchscript"])
def test_every_format_holds_the_same_model(tmp_path: Path, format: str) -> None:
    task = task_of(tmp_path, name="python:net.py:net")
    finished(task, tmp_path / "model.safetensors")
    loaded, out = gossip.load(tmp_path), tmp_path / "exported"
    assert cli.run(["export", "--home", str(tmp_path), "--format", format, "--out", str(out)]) == 0
    x = task.dataset.x_test
    if format == "torchscript":
        with warnings.catch_warnings(action="ignore"):
            found = torch.jit.load(str(out))(x)
        assert torch.allclose(found, loaded.logits(x), atol=1e-6)
    else:
        state = (
            safetensors.torch.load_file(out)
            if format == "safetensors"
            else torch.load(out, weights_only=True)
        )
        wanted = loaded.module.state_dict()
        assert state.keys() == wanted.keys()
        assert all(torch.equal(state[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("name", ["python:net.py:net", "cnn", "python:net.py:following"])
def test_onnx_computes_the_same_for_any_number_of_samples(tmp_path: Path, name: str) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    evaluator = pytest.importorskip("onnx.reference")
    tokens = name.endswith("following")
    if tokens:
        x = np.arange(60).reshape(20, 3) % 4
        np.savez(tmp_path / "d.npz", x_train=x, y_train=(x + 1) % 4, x_test=x[:6], y_test=(x[:6] + 1) % 4)
        task = task_of(tmp_path, data={"source": "d.npz"}, objective="sequence", name=name)
    else:
        task = task_of(tmp_path, name=name)
    finished(task, tmp_path / "model.safetensors")
    loaded, out = gossip.load(tmp_path), tmp_path / "model.onnx"
    assert cli.run(["export", "--home", str(tmp_path), "--format", "onnx", "--out", str(out)]) == 0
    graph = onnx.load(out)
    said = {each.key: each.value for each in graph.metadata_props}
    assert Preparation.of(json.loads(said["gossip.preparation"])) == loaded.preparation
    session = evaluator.ReferenceEvaluator(graph)
    assert (session.input_names, session.output_names) == ([exporting.INPUT], [exporting.OUTPUT])
    for count in (1, 2, 5):
        x = loaded.prepared(task.dataset.x_test[:count])
        (found,) = session.run(None, {exporting.INPUT: x.numpy()})
        assert torch.allclose(torch.from_numpy(found), loaded.logits(task.dataset.x_test[:count]), atol=1e-4)


def test_a_network_that_asks_its_samples_what_to_do_is_no_graph(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxscript")
    finished(task_of(tmp_path, name="python:net.py:wavering"), tmp_path / "model.safetensors")
    out = tmp_path / "model.onnx"
    assert cli.run(["export", "--home", str(tmp_path), "--format", "onnx", "--out", str(out)]) == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith("gossip-node: --format onnx: this network cannot be written so: ")
    assert said.out == ""
    assert not out.exists()


def test_formats_that_are_none_or_cannot_be_are_sentences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(task_of(tmp_path), tmp_path / "model.safetensors")

    def run(*arguments: str) -> str:
        assert cli.run(["export", "--home", str(tmp_path), *arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "--format pmml: valid: safetensors, state-dict" in run(
        "--format", "pmml", "--out", str(tmp_path / "x")
    )
    assert "cannot be written" in run("--format", "safetensors", "--out", str(tmp_path / "none" / "x"))
    monkeypatch.setattr(exporting.importlib, "import_module", _missing)
    assert "pip install onnx onnxscript, or gossip-node[onnx]" in run(
        "--format", "onnx", "--out", str(tmp_path / "x")
    )


def _missing(name: str, found: Callable[[str], Any] = importlib.import_module) -> Any:
    if name.startswith("onnx"):
        raise ImportError(name)
    return found(name)


def test_models_are_compared_and_averaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        task = task_of(tmp_path, name="mlp")
        task.seed = seed
        finished(task, tmp_path / name / "model.safetensors")
    out = tmp_path / "average.safetensors"
    homes = [str(tmp_path / name) for name in "ab"]
    assert cli.run(["compare", *homes, "--data", "digits", "--average", str(out), "--json"]) == 0
    first, second, average = json.loads(capsys.readouterr().out)
    assert first["distance"] == 0
    assert second["distance"] > 0
    models = [gossip.load(home).module.state_dict() for home in homes]
    mean = gossip.load(out)
    for name, tensor in mean.module.state_dict().items():
        assert torch.allclose(tensor, (models[0][name] + models[1][name]) / 2)
    assert average["accuracy"] == pytest.approx(
        mean.evaluate(*(getattr(task.dataset, key) for key in ("x_test", "y_test")))["accuracy"], abs=0.2
    )
    assert len(mean.provenance["average_of"]) == 2
    finished(task_of(tmp_path, name="mlp", hidden=(3,)), tmp_path / "model.safetensors")
    assert cli.run(["compare", homes[0], str(tmp_path)]) == 2
    assert "is of another network or objective" in capsys.readouterr().err
    assert cli.run(["compare", homes[0]]) == 2


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda path: path.unlink(), "there is no finished model"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "no readable model"),
        (lambda path: safetensors.torch.save_file({"a": torch.ones(1)}, path), "says nothing of the network"),
        (lambda path: safetensors.torch.save_file({}, path, metadata={"description": "{"}), "is damaged"),
        (
            lambda path: safetensors.torch.save_file({}, path, metadata={"description": '{"version": 99}'}),
            "is of version 99; this is version 1",
        ),
        (lambda path: (path.parent / "net.py").unlink(), "there is no file"),
    ],
)
def test_a_file_that_is_no_model_is_a_sentence(tmp_path: Path, spoil, sentence: str) -> None:
    path = tmp_path / "model.safetensors"
    finished(task_of(tmp_path, name="python:net.py:net"), path)
    spoil(path)
    with pytest.raises(SettingError, match=sentence) as caught:
        gossip.load(path)
    assert "\n" not in str(caught.value)


def test_a_model_that_was_moved_takes_its_network_from_a_copy_that_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    finished(task_of(old, name="python:net.py:net"), old / "model.safetensors")
    about = {"description": json.dumps(gossip.load(old).description)}
    page = card(about, {}, parameters=3)
    assert "`net` of `net.py`" in page
    assert "--network FILE" in page
    assert str(tmp_path) not in page
    for name in ("model.safetensors", "net.py"):
        (old / name).rename(new / name)
    with pytest.raises(SettingError, match=r"--network net\.py"):
        gossip.load(new)  # a file that lies there is not run unasked
    x = np.zeros((2, 1, 8, 8), np.float32)
    assert len(gossip.load(new, network=new / "net.py").predict(x)) == 2
    np.savez(tmp_path / "d.npz", x=x, y=np.zeros(2, int))
    asked = ["--home", str(new), "--data", str(tmp_path / "d.npz"), "--network", str(new / "net.py")]
    assert cli.run(["predict", *asked, "--out", str(tmp_path / "told.csv")]) == 0
    assert "told.csv: 2 predictions" in capsys.readouterr().err
    finished(task_of(old, name="cnn"), old / "model.safetensors")
    with pytest.raises(SettingError, match="which no file makes"):
        gossip.load(old, network=new / "net.py")


def test_a_model_file_says_nothing_of_the_folders_it_was_made_in(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    files = []
    for folder in (tmp_path / "one", tmp_path / "another"):
        folder.mkdir()
        finished(task_of(folder, name="python:net.py:net"), path)
        files.append(path.read_bytes())
    assert str(tmp_path).encode() not in files[0]
    assert files[0] == files[1]


def test_without_its_home_a_model_finds_its_network_nowhere_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(task_of(tmp_path, name="python:net.py:net"), tmp_path / "model.safetensors")
    assert gossip.load(tmp_path).settings.name == f"python:{tmp_path / 'net.py'}:net"
    monkeypatch.chdir(tmp_path)  # where a file of that name lies
    for here in ("/proc/self/cwd/net.py", f"{tmp_path}/../{tmp_path.name}/net.py"):
        # Whoever hands on a model may hand on what it says of its home with it.
        (tmp_path / SOURCE).write_text(json.dumps({"model": {"name": f"python:{here}:net"}}))
        with pytest.raises(SettingError, match=r"--network net\.py"):
            gossip.load(tmp_path)
    (tmp_path / SOURCE).unlink()
    with pytest.raises(SettingError, match=r"no file net\.py, whose function 'net' .* --network net\.py"):
        gossip.load(tmp_path)


def test_a_network_whose_file_has_changed_is_told_of_or_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    finished(task_of(tmp_path, name="python:net.py:net"), tmp_path / "model.safetensors")
    (tmp_path / "net.py").write_text(NETWORK + "# another line\n")
    with caplog.at_level(logging.WARNING):
        gossip.load(tmp_path)
    assert "has changed since the model was learnt" in caplog.text
    (tmp_path / "net.py").write_text(
        NETWORK.replace("nn.Linear(64, 8)", "nn.Linear(64, 9)").replace("(8", "(9")
    )
    with pytest.raises(SettingError, match="is another one"):
        gossip.load(tmp_path)


def test_targets_that_do_not_fit_are_a_sentence(tmp_path: Path) -> None:
    finished(task_of(tmp_path), tmp_path / "model.safetensors")
    loaded, x = gossip.load(tmp_path), np.zeros((3, 1, 8, 8))
    with pytest.raises(DataError, match="there are 3 samples, but 2 targets"):
        loaded.evaluate(x, [0, 1])
    with pytest.raises(DataError, match="there is a class 10; the model knows 0 … 9"):
        loaded.evaluate(x, [0, 1, 10])
    with pytest.raises(DataError, match="class numbers are whole"):
        loaded.evaluate(x, [0, 1, 0.5])


def test_no_file_that_is_there_is_written_over_unasked(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, model = table / "rows.csv", table / "model.safetensors"
    before = rows.read_bytes(), model.read_bytes()
    home = ["--home", str(table)]
    for command in (
        ["predict", *home, "--data", str(rows), "--out", str(rows)],
        ["export", *home, "--format", "state-dict", "--out", str(model)],
        ["compare", str(table), str(table), "--average", str(rows)],
    ):
        assert cli.run(command) == 2
        assert "is there already; give another name, or --force to replace it" in capsys.readouterr().err
    assert (rows.read_bytes(), model.read_bytes()) == before
    out = table / "told.csv"
    out.write_text("old")
    assert cli.run(["predict", *home, "--data", str(rows), "--out", str(out), "--force"]) == 0
    assert out.read_text().startswith("sample,")


def test_what_a_node_keeps_in_its_home_is_never_written_over(
    table: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    model, other = table / "model.safetensors", tmp_path_factory.mktemp("other")
    (other / "sub").mkdir()
    (table / "soft.bin").symlink_to(model)
    (table / "hard.bin").hardlink_to(model)
    (other / "home").symlink_to(table)
    (table / "summary.json").write_text("{}")
    for home in (table, other):
        (home / "identity.pem").write_text("a key")
    before = {path: path.read_bytes() for folder in (table, other) for path in folder.glob("*.*")}
    rows, force = ["--data", str(table / "rows.csv")], "--force"
    for out in (
        *(table / name for name in ("model.safetensors", "soft.bin", "hard.bin", "identity.pem", "lock")),
        *(table / name for name in ("summary.json", "privacy.json", "checkpoints", "checkpoints/x.bin")),
        *(other / name for name in ("home/model.safetensors", "sub/../home/metrics.jsonl", "identity.pem")),
        other / "best.safetensors",
    ):
        for command in (
            ["export", "--home", str(table), "--format", "safetensors", "--out", str(out), force],
            ["export", "--home", str(model), "--format", "peft", "--out", str(out), force],
            ["predict", "--home", str(table), *rows, "--out", str(out), force],
            ["compare", str(table), str(model), "--average", str(out), force],
        ):
            assert cli.run(command) == 2
            said = capsys.readouterr().err
            assert ("give another name" in said, str(out) in said, said.count("\n")) == (True, True, 1)
    assert before == {path: path.read_bytes() for folder in (table, other) for path in folder.glob("*.*")}
    for out in (table / "own.safetensors", table / "rows-told.bin"):
        assert cli.run(["export", "--home", str(table), "--format", "safetensors", "--out", str(out)]) == 0


def test_a_model_that_has_diverged_says_nothing(tmp_path: Path) -> None:
    task = task_of(tmp_path)
    finished(task, tmp_path / "model.safetensors")
    state = safetensors.torch.load_file(tmp_path / "model.safetensors")
    about = {"description": json.dumps(gossip.load(tmp_path).description)}
    state["1.weight"][0, 0] = torch.inf
    safetensors.torch.save_file(state, tmp_path / "model.safetensors", metadata=about)
    with pytest.raises(SettingError, match=r"'1\.weight' is not finite: the model has diverged"):
        gossip.load(tmp_path)


def test_data_that_are_not_there_or_nothing_are_called_so(tmp_path: Path) -> None:
    finished(task_of(tmp_path), tmp_path / "model.safetensors")
    loaded = gossip.load(tmp_path)
    for source in ("none.csv", "none.npz", "none"):
        with pytest.raises(DataError, match=f"--data {source}: there is no such file or folder"):
            read(source, loaded, folder=tmp_path)
    with pytest.raises(DataError, match=r"--data net\.py: is no table"):
        read("net.py", loaded, folder=tmp_path)
