"""What is learnt need not be classes: the same scores in both engines, told under their own names, or a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import scenarios
from gossip.config.loading import load_task
from gossip.errors import SettingError, UserError
from scenarios import cli, sweep

OWN = """
import numpy as np
import torch
from torch import nn
from gossip.learning.objectives.base import Measured, Objective, Score

def numbers():
    draw = np.random.default_rng(0)
    x = draw.normal(size=(160, 4))
    y = x @ draw.normal(size=(4, 2)) + 0.1 * draw.normal(size=(160, 2))
    return x[:120], y[:120], x[120:], y[120:]

def labels():
    x, y, x_test, y_test = numbers()
    return x, (y > 0).astype(int), x_test, (y_test > 0).astype(int)

def text():
    told = np.array([ord(letter) % 32 for letter in "the quick brown fox jumps over the lazy dog " * 12])
    x = np.stack([told[i:i + 9] for i in range(0, len(told) - 9, 4)])
    return x[:90, :-1], x[:90, 1:], x[90:, :-1], x[90:, 1:]

class Next(nn.Module):
    def __init__(self, tokens):
        super().__init__()
        self.table, self.read = nn.Embedding(tokens, 8), nn.GRU(8, 16, batch_first=True)
        self.out = nn.Linear(16, tokens)
    def forward(self, x):
        return self.out(self.read(self.table(x))[0])

def following(shape, tokens): return Next(tokens)

class Quantile(Objective):
    score = Score("pinball", higher_is_better=False)
    def targets(self, array, *, source, key): return np.asarray(array, dtype=np.float32)
    def outputs(self, train, test): return train.shape[1]
    def shape(self, targets, outputs): return tuple(targets.shape)
    def loss(self, outputs, targets):
        missed = targets - outputs
        return torch.maximum(0.8 * missed, -0.2 * missed).mean()
    def sums(self, outputs, targets):
        return torch.tensor([len(targets), len(targets) * float(self.loss(outputs, targets))], dtype=torch.float64)
    def measured(self, sums):
        return Measured(float(sums[1] / sums[0]), float(sums[1] / sums[0]))
"""
TASKS = {
    "regression": ("numbers", "mlp", 0.1),
    "multi-label": ("labels", "mlp", 0.1),
    "sequence": ("text", "python:own.py:following", 0.5),
    "python:own.py:Quantile": ("numbers", "mlp", 0.3),
}
SCORES = {
    "regression": "r2",
    "multi-label": "f1",
    "sequence": "perplexity",
    "python:own.py:Quantile": "pinball",
}


def scenario(folder: Path, kind: str, **settings: str) -> Path:
    (folder / "own.py").write_text(OWN)
    loader, network, lr = TASKS[kind]
    written = {
        "scenario": 'name = "own"\npeers = 3\nalgorithm = "dfedavg"',
        "data": f'source = "python:own.py:{loader}"',
        "objective": f'kind = "{kind}"',
        "model": f'name = "{network}"',
        "local": f"lr = {lr}",
        "topology": 'kind = "full"',
        "stop": "rounds = 3",
        **settings,
    }
    path = folder / "own.toml"
    path.write_text("".join(f"[{name}]\n{text}\n" for name, text in written.items()))
    return path


@pytest.mark.parametrize("kind", list(TASKS))
def test_every_objective_learns_and_is_told_by_its_own_score(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = scenario(tmp_path, kind)
    first = scenarios.run(path, out=tmp_path / "one", overrides=["stop.rounds=1"], report=False).summary
    assert cli.call(["run", str(path), "-q", "--out", str(tmp_path / "run")]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    score = summary["objective"]
    assert score["name"] == SCORES[kind]
    up = 1 if score["higher_is_better"] else -1
    assert summary["curve"][-1]["test_loss_mean"] < first["curve"][-1]["test_loss_mean"]
    assert summary["score"]["worst"] == summary["score"]["min" if up > 0 else "max"]
    assert summary["accuracy"]["mean"] is None
    assert summary["curve"][-1]["score_of_mean"] is not None
    label = {"r2": "R²", "f1": "F1"}.get(SCORES[kind], SCORES[kind])
    assert label in capsys.readouterr().out
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"{label}, mean of the peers’ own models" in page
    assert "accuracy" not in page


def test_both_engines_score_alike(tmp_path: Path) -> None:
    path = scenario(tmp_path, "regression")
    virtual, processes = (
        scenarios.run(path, engine=engine, out=tmp_path / engine, report=False)
        for engine in ("virtual", "processes")
    )
    assert virtual.summary["objective"] == processes.summary["objective"]
    assert virtual.summary["score"] == pytest.approx(processes.summary["score"], abs=1e-5)
    assert [peer["score"] for peer in virtual.peers] == pytest.approx(
        [peer["score"] for peer in processes.peers], abs=1e-5
    )


def test_a_rule_that_judges_by_loss_takes_any_objective(tmp_path: Path) -> None:
    path = scenario(tmp_path, "regression", merge='kind = "ubar"')
    summary = scenarios.run(path, out=tmp_path / "run", report=False).summary
    assert summary["score"]["mean"] > 0.5


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("data.partition={kind='dirichlet'}", "partition = 'dirichlet' divides by class"),
        ("data.validation_per_class=2", "validation_per_class = 2: the objective has no classes"),
        ("data.class_subset=[0, 1]", "class_subset is for objectives that tell classes apart"),
        ("local.consolidate=familiar", 'consolidate = "familiar" is for objectives that tell classes apart'),
        ("merge.kind=bristle", "kind = 'bristle' judges models by classes"),
        ("attack={kind='label-flip', count=1}", "kind = 'label-flip' is made of classes"),
        ("attack={kind='mixed', kinds=['backdoor'], count=1}", "backdoor"),
        ("attack={kind='sign-flip', count=1, data='all', samples_per_class=2}", "samples_per_class"),
        ("stop.target_accuracy=0.5", "target_accuracy = 0.5: the objective is scored by R²"),
    ],
)
def test_what_is_made_of_classes_is_refused_where_there_are_none(
    tmp_path: Path, override: str, sentence: str
) -> None:
    with pytest.raises(UserError) as caught:
        scenarios.run(
            scenario(tmp_path, "regression"), out=tmp_path / "run", overrides=[override], report=False
        )
    assert sentence in str(caught.value)


def test_runs_of_different_objectives_are_not_put_on_one_page(tmp_path: Path) -> None:
    scenarios.run(scenario(tmp_path, "regression"), out=tmp_path / "a", report=False)
    scenarios.run(scenario(tmp_path, "multi-label"), out=tmp_path / "b", report=False)
    assert cli.call(["report", str(tmp_path / "a"), str(tmp_path / "b")]) == 2


def test_a_sweep_tells_the_objectives_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = scenario(tmp_path, "regression")
    assert (
        cli.call(
            [
                "sweep",
                str(path),
                "--set",
                "local.lr=0.05,0.1",
                "-q",
                "--out",
                str(tmp_path / "s"),
                "--jobs",
                "1",
            ]
        )
        == 0
    )
    assert "R²" in capsys.readouterr().out
    runs = sweep.plan(str(path), "virtual", ["local.lr=0.05,0.1"], [0], tmp_path / "s")
    assert all(row.measures["score"]["mean"] is not None for row in sweep.table(runs))


def test_peers_with_another_objective_name_the_section() -> None:
    ours = load_task(overrides=["objective.kind=regression"])
    other = load_task(overrides=["objective={kind='regression', loss='absolute'}"])
    differ = {name for name, digest in ours.agreement().items() if other.agreement()[name] != digest}
    assert differ == {"objective"}
    assert "objective" not in load_task().agreement(), "peers that do not know it do the same"


def test_an_unknown_objective_is_refused_with_the_nearest() -> None:
    with pytest.raises(SettingError, match="did you mean 'regression'"):
        load_task(overrides=["objective.kind=regresion"])


@pytest.mark.parametrize("kind", ["regression", "multi-label"])
def test_a_number_of_classes_belongs_to_classes(tmp_path: Path, kind: str) -> None:
    with pytest.raises(UserError, match=r"classes = 5: the objective has no classes; leave it out"):
        scenarios.run(
            scenario(tmp_path, kind), out=tmp_path / "run", overrides=["data.classes=5"], report=False
        )


def test_a_width_of_huber_belongs_to_huber() -> None:
    with pytest.raises(SettingError, match='delta = 3 belongs to loss = "huber"'):
        load_task(overrides=["objective={kind='regression', delta=3.0}"])
