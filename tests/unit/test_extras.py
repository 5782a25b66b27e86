"""What a peer in the field need not install: it learns without, and says in a sentence where something is missing."""

from __future__ import annotations

import ast
import logging
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

import scenarios
from gossip.errors import SettingError
from gossip.extras import needed
from gossip.learning.data.digits import images_and_labels
from gossip.learning.objectives.classification import Classification
from gossip.learning.objectives.multi_label import MultiLabel
from scenarios import cli, ready, scenario

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {name: set(packages) for name, packages in PROJECT["optional-dependencies"].items()}
MODULES = {"prometheus_client": "prometheus-client", "tomli_w": "tomli-w", "sklearn": "scikit-learn"}
UNTESTED = ("dev", "fuzz", "docs", "mlflow", "wandb", "ray", "adapters")
"""Of two loggers stand-ins are tested, tools/distribution.py --loggers runs the real ones; a torture runs Ray; PEFT is
tested where it is installed."""
SMALL = {"scenario.peers": 2, "stop.rounds": 1, "scenario.algorithm": "dfedavg", "topology.kind": "full"}


def names_of(requirements: object) -> set[str]:
    return {re.split(r"[^\w-]", each)[0] for each in requirements}


def imported_at_once(path: Path) -> set[str]:
    """Return the packages that importing a module imports, wherever that is not for type checkers alone."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {each.name.partition(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"gossip", "scenarios", "topologies"}


@pytest.mark.parametrize("house", ["gossip", "topologies"])
def test_a_peer_imports_nothing_that_is_not_installed_with_it(house: str) -> None:
    base = names_of(PROJECT["dependencies"])
    for path in (ROOT / house).rglob("*.py"):
        if path.parent.name == "page":  # imported for --page alone, which asks first
            continue
        if (
            path == ROOT / "gossip/wire/codecs/kernels.py"
        ):  # imported by `compiled` alone, which goes on without
            continue
        assert {MODULES.get(each, each) for each in imported_at_once(path)} <= base, path


def test_what_draws_and_writes_pages_is_asked_for_in_few_places() -> None:
    drawn = {"matplotlib", "jinja2", "bokeh", "markupsafe"}
    found = {
        path.relative_to(ROOT / "scenarios").as_posix()
        for path in (ROOT / "scenarios").rglob("*.py")
        if imported_at_once(path) & drawn
    }
    assert {name.split("/")[0] for name in found} <= {"reports", "tuning"}


def test_the_tests_extra_has_all_others_that_are_tested() -> None:
    others = set().union(*(names_of(EXTRAS[name]) for name in EXTRAS if name not in UNTESTED))
    assert others <= names_of(EXTRAS["test"])


def test_the_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    theirs = load_digits()
    x, y = images_and_labels()
    np.testing.assert_array_equal(x[:, 0], theirs.images.astype(np.float32) / 16)
    np.testing.assert_array_equal(y, theirs.target)
    x[:], y[:] = 0, 0
    assert all(each.any() for each in images_and_labels())


def test_what_list_says_is_what_the_scenarios_are() -> None:
    entries = ready.entries()
    assert len(entries) > 10
    for entry in entries:
        table = scenario.load(entry["name"]).scenario
        assert (entry["peers"], entry["algorithm"]) == (table.peers, table.algorithm)
        assert entry["description"] == table.description


def test_list_checks_no_settings_and_draws_no_graphs() -> None:
    heavy = {"torch", "networkx", "numpy", "matplotlib", "gossip.config.task", "scenarios.scenario"}
    code = (
        "import sys; from scenarios.cli import call; call(['list']);"
        f"found = {heavy} & set(sys.modules); sys.exit(str(found) if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "quickstart" in done.stdout


def test_the_package_is_a_program() -> None:
    for module, name in (("gossip", "gossip-node"), ("scenarios", "gossip-scenario")):
        done = subprocess.run(
            [sys.executable, "-m", module, "--version"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.stdout.startswith(f"{name} ")


def test_a_run_without_what_writes_reports_says_so_first_and_has_all_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "bokeh", None)
    with caplog.at_level(logging.WARNING, "scenarios"):
        result = scenarios.run("quickstart", overrides=SMALL, out=tmp_path / "run")
    assert "no report will be written: a report is written with bokeh, which is not installed" in caplog.text
    assert (result.folder / "summary.json").exists()
    assert not (result.folder / "report.html").exists()


@pytest.mark.parametrize(
    ("missing", "arguments", "sentence"),
    [
        ("bokeh", ["report", "runs"], "a report is written with bokeh"),
        ("matplotlib", ["report", "runs", "--pdf", "x.pdf"], "--pdf is drawn with matplotlib"),
        ("matplotlib", ["report", "runs", "--svg", "x"], "--svg is drawn with matplotlib"),
        ("matplotlib", ["tune", "quickstart"], "the page of a study is drawn with matplotlib"),
    ],
)
def test_what_is_missing_is_one_sentence(
    missing: str,
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, missing, None)
    extra = "tune" if arguments[0] == "tune" else "report"
    assert cli.call(arguments) == 2
    said = capsys.readouterr().err
    assert (
        said == f"gossip-scenario: {sentence}, which is not installed: pip install 'gossip-node[{extra}]'\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("objective", [Classification(), MultiLabel()])
def test_measures_of_a_finished_model_need_an_extra(objective, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(SettingError, match=r"which is not installed: pip install 'gossip-node\[scores\]'"):
        objective.metrics(torch.zeros(2, 2), torch.tensor([0, 1]))


def test_a_package_that_is_there_and_broken_is_not_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_package.py").write_text(
        "raise ImportError('libfoo.so.3: cannot open\\nmore of it')\n"
    )
    (tmp_path / "half_package.py").write_text("import a_package_that_is_nowhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SettingError) as said:
        needed("broken_package", "it is drawn with that", extra="report")
    assert str(said.value) == (
        "it is drawn with that, which is installed and cannot be imported (libfoo.so.3: cannot open): "
        "pip install --force-reinstall 'gossip-node[report]'"
    )
    with pytest.raises(SettingError, match=r"which is not installed: pip install 'gossip-node\[report\]'"):
        needed("half_package", "it is drawn with that", extra="report")


def test_a_notebooks_backend_without_matplotlib_hurts_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import os, sys; sys.modules['matplotlib'] = None; os.environ['MPLBACKEND'] = 'a notebook'\n"
        "import scenarios.reports; assert os.environ['MPLBACKEND'] == 'a notebook'"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
