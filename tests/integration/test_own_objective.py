"""A user's own objective: what is wrong with it is one sentence before anything starts, and nothing of it is silent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import scenarios
from gossip import cli
from gossip.errors import ExitCode, GossipError, SettingError
from tests.integration.homes import make_homes

SMALL = {
    "scenario.algorithm": "dfedavg",
    "scenario.peers": 2,
    "data.train_max": 120,
    "data.test_max": 60,
    "model.name": "logistic",
    "topology.kind": "full",
    "stop.rounds": 2,
}

HEAD = (
    "import random\n"
    "import numpy as np\n"
    "import torch\n"
    "import gossip\n"
    "from torch.nn.functional import cross_entropy\n"
    "from gossip.learning.objectives.base import Measured\n"
    "from gossip.learning.objectives.classification import Classification\n"
    "calls = []\n"
    "class Own(Classification):\n"
)
LOSS = "    def loss(self, outputs, targets):\n        "
SUMS = "    def sums(self, outputs, targets):\n        "

MISTAKES = {
    "loss-vector": (
        LOSS + "return cross_entropy(outputs, targets, reduction='none')\n",
        "loss returns float32 of",
    ),
    "loss-none": (LOSS + "return None\n", "loss returns None; it must be a tensor of shape ()"),
    "loss-float": (LOSS + "return 1.0\n", "loss returns float; it must be a tensor of shape ()"),
    "loss-detached": (LOSS + "return cross_entropy(outputs, targets).detach()\n", "cut off from the outputs"),
    "loss-another-leaf": (
        LOSS + "return torch.tensor(cross_entropy(outputs, targets).item(), requires_grad=True)\n",
        "cut off from the outputs",
    ),
    "loss-raises": (LOSS + "raise ValueError('so it is')\n", "loss fails: ValueError: so it is"),
    "loss-changes-targets": (
        LOSS + "return cross_entropy(outputs, targets.zero_())\n",
        "loss changes what it is given: targets",
    ),
    "loss-not-plain": (
        "    def __init__(self, settings):\n        super().__init__()\n        self.plain = True\n"
        + LOSS
        + "return cross_entropy(outputs, targets) ** 2\n",
        "plain is True, and loss is no softmax cross-entropy",
    ),
    "sums-none": (SUMS + "return None\n", "sums returns None; it must be a tensor (k,)"),
    "sums-of-each": (SUMS + "return targets.double()\n", "it must be as many of any"),
    "sums-changes-outputs": (
        SUMS + "return super().sums(outputs.mul_(2), targets)\n",
        "sums changes what it is given: outputs",
    ),
    "measured-none": (
        "    def measured(self, sums):\n        return None\n",
        "measured returns None; it must be Measured",
    ),
    "score-text": ("    score = 'best'\n", "score is 'best'; it must be a Score"),
    "targets-none": (
        "    def targets(self, array, *, source, key):\n        return None\n",
        "targets returns None; it must be an array",
    ),
    "outputs-real": (
        "    def outputs(self, train, test):\n        return 10.0\n",
        "outputs returns 10.0; it must be",
    ),
    "shape-number": (
        "    def shape(self, targets, outputs):\n        return 3\n",
        "shape returns 3; it must be a tuple",
    ),
    "made": (
        "    def __init__(self, settings):\n        self.much = settings.much\n",
        "fails when it is made",
    ),
}


def write(folder: Path, body: str) -> str:
    (folder / "own.py").write_text(HEAD + body)
    return f"python:{folder / 'own.py'}:Own"


@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_objective_that_is_none_is_refused_before_anything_starts_in_one_sentence(
    mistake: str, tmp_path: Path
) -> None:
    body, sentence = MISTAKES[mistake]
    own = {**SMALL, "objective.kind": write(tmp_path, body)}
    for engine in ("virtual", "processes") if mistake == "loss-vector" else ("virtual",):
        with pytest.raises(SettingError) as caught:
            scenarios.run("quickstart", engine=engine, overrides=own, report=False, out=tmp_path / engine)
        assert str(caught.value).startswith(f"[objective] kind = '{own['objective.kind']}'")
        assert sentence in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("command", [[], ["check"]])
def test_a_node_refuses_it_too(command: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    peers = make_homes(tmp_path, ["a", "b"])
    body, sentence = MISTAKES["loss-vector"]
    given = ["--home", str(tmp_path / "a"), "--peers", str(peers), "--set", "model.name=logistic"]
    own = ["--set", f"objective.kind={write(tmp_path, body)}"]
    assert cli.run([*command, *given, *own]) == ExitCode.USAGE
    said = capfd.readouterr().err
    assert sentence in said
    assert "Traceback" not in said


@pytest.mark.parametrize("engine", ["virtual", "processes"])
@pytest.mark.parametrize("network", ["logistic", "mlp"])
def test_an_objective_that_fails_in_the_middle_is_one_sentence(
    network: str, engine: str, tmp_path: Path
) -> None:
    body = (
        LOSS + "calls.append(1)\n        if len(calls) > 20:\n            raise ValueError('no more')\n"
        "        return cross_entropy(outputs, targets)\n"
    )
    own = {
        **SMALL,
        "model.name": network,
        "scenario.strict": True,
        "stop.rounds": 40,
        "objective.kind": write(tmp_path, body),
    }
    with pytest.raises(
        GossipError, match=r"\[objective\] kind = '.*own.py:Own': loss fails: ValueError: no more"
    ):
        scenarios.run("quickstart", engine=engine, overrides=own, report=False, out=tmp_path / "run")


def test_what_a_subclass_does_not_say_is_as_in_ours(tmp_path: Path) -> None:
    half = "    def measured(self, sums):\n        return Measured(super().measured(sums).loss, 0.5)\n"
    own = {**SMALL, "objective.kind": write(tmp_path, half)}
    result = scenarios.run("quickstart", overrides=own, report=False, out=tmp_path / "plain")
    assert result.summary["score"]["mean"] == 0.5
    smoothed = half + "    class Settings(gossip.Settings):\n        label_smoothing: float = 0.3\n"
    own = {**SMALL, "objective.kind": write(tmp_path, smoothed)}
    theirs = scenarios.run("quickstart", overrides=own, report=False, out=tmp_path / "theirs")
    ours = scenarios.run(
        "quickstart",
        overrides={**SMALL, "objective.kind": "classification", "objective.label_smoothing": 0.3},
        report=False,
        out=tmp_path / "ours",
    )
    assert theirs.summary["model_digest"] == ours.summary["model_digest"]
    assert theirs.summary["model_digest"] != result.summary["model_digest"]


DRAWN = {
    "torch": "torch.rand(())",
    "numpy": "np.random.rand()",
    "random": "random.random()",
}


@pytest.mark.parametrize("generator", DRAWN)
def test_equal_seeds_give_equal_runs_whatever_a_loss_draws_from(generator: str, tmp_path: Path) -> None:
    body = LOSS + f"return cross_entropy(outputs, targets) * {DRAWN[generator]}\n"
    own = {**SMALL, "objective.kind": write(tmp_path, body)}
    first, again = (
        scenarios.run("quickstart", overrides=own, report=False, out=tmp_path / f"{place}")
        for place in range(2)
    )
    assert first.metrics == again.metrics
    assert first.summary["model_digest"] == again.summary["model_digest"]
    assert first.summary["warnings"] == []


def test_what_no_seed_fixes_in_a_loss_is_told_at_the_start(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    body = LOSS + "return cross_entropy(outputs, targets) * np.random.default_rng().random()\n"
    kind = write(tmp_path, body)
    own = {**SMALL, "objective.kind": kind}
    (told,) = scenarios.run("quickstart", overrides=own, report=False, out=tmp_path / "run").summary[
        "warnings"
    ]
    assert "runs with equal seeds will differ" in told
    peers = make_homes(tmp_path, ["a", "b"])
    given = ["--home", str(tmp_path / "a"), "--peers", str(peers), "--set", "model.name=logistic"]
    cli.run(["check", "--json", *given, "--set", f"objective.kind={kind}"])
    (again,) = json.loads(capfd.readouterr().out)["warnings"]
    assert again == told
