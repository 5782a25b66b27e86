"""What is wrong with users' own stages, at the start or in the middle of a run, is one sentence, in every engine."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest

import scenarios
from gossip.errors import GossipError, SettingError
from tests.integration.own_stages import HEADER, KEYS, METHODS, SMALL


@pytest.fixture(autouse=True)
def nothing_to_collect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of a few small peers leave nothing behind, and to look for it would take longer than they do."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


def run(folder: Path, seam: str, text: str, engine: str = "virtual", **settings: Any) -> scenarios.RunResult:
    """Run with a method of one's own; `text` is the body of the method that the seam has first."""
    body = "".join(f"        {line}\n" for line in text.splitlines())
    (folder / "own.py").write_text(HEADER + METHODS[seam] + body)
    own = {**SMALL, KEYS[seam]: f"python:{folder / 'own.py'}:Own", **settings}
    if seam == "Attack":
        own["attack.count"] = 1
    return scenarios.run("quickstart", engine=engine, overrides=own, report=False, out=folder / engine)


def sentence_of(folder: Path, seam: str, text: str, engine: str = "virtual", **settings: Any) -> str:
    kind = SettingError if engine == "virtual" else GossipError
    with pytest.raises(kind) as caught:
        run(folder, seam, text, engine, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


LATE = {
    "merge": (
        "Merge",
        "return own.clone() if context.at.round < 2 else torch.zeros(1)",
        "[merge] in round 2: Own returns for a model (1,) torch.float32; it must be float32 of shape (650,)",
    ),
    "merge-half": (
        "Merge",
        "return own.clone() if context.at.round < 2 else own.double()",
        "[merge] in round 2: Own returns for a model (650,) torch.float64; it must be float32 of shape (650,)",
    ),
    "merge-gradient": (
        "Merge",
        "return own.clone().requires_grad_(context.at.round > 1) * 1.0",
        "[merge] in round 2: Own returns for a model what requires a gradient",
    ),
    "outgoing": (
        "Outgoing",
        "late = any(each.number > 1 for each in draws)\nreturn (models[:, :1] if late else models * 1), state",
        "[outgoing] Own send returns as models (",
    ),
    "outgoing-rows": (
        "Outgoing",
        "late = any(each.number > 1 for each in draws)\nreturn models * 1, ({'more': models} if late else state)",
        "[outgoing] Own send returns the rows ['more']; `rows` says []",
    ),
    "outgoing-alone": (
        "Outgoing",
        "late = any(each.number > 1 for each in draws)\nreturn models * 1 if late else (models * 1, state)",
        "[outgoing] Own send returns Tensor; it must be models and state",
    ),
    "attack": (
        "Attack",
        "return known.own if known.round < 2 else torch.ones(1)",
        "[attack] in round 2: Own craft returns for a model (1,) torch.float32",
    ),
}


@pytest.mark.parametrize(
    ("mistake", "engine"),
    [
        *((mistake, "virtual") for mistake in LATE),
        *((mistake, "processes") for mistake in ("merge", "outgoing", "attack")),
    ],
)
def test_what_is_of_another_shape_in_the_middle_of_a_run_is_never_sent_nor_kept(
    mistake: str, engine: str, tmp_path: Path
) -> None:
    seam, text, sentence = LATE[mistake]
    said = sentence_of(tmp_path, seam, text, engine)
    assert sentence in said
    assert "own.py" in said


@pytest.mark.parametrize("engine", ["virtual", "processes"])
def test_a_rule_that_makes_numbers_that_are_not_finite_is_named_as_the_cause(
    engine: str, tmp_path: Path
) -> None:
    text = "return own * (1.0 if context.at.round < 1 else float('nan'))"
    summary = run(tmp_path, "Merge", text, engine).summary
    assert len(summary["divergence"]["peers"]) == SMALL["scenario.peers"]
    assert (
        "the likely cause is [merge] Own, which returned numbers that are not finite in round 2, for models that are"
        in summary["divergence"]["sentence"]
    )


LEAVING = {
    "merge": ("Merge", "import sys\nsys.exit(3)", "[merge] in round 0: Own fails: SystemExit: 3"),
    "late-merge": (
        "Merge",
        "if context.at.round > 1:\n    raise SystemExit(3)\nreturn own.clone()",
        "[merge] in round 2: Own fails: SystemExit: 3",
    ),
    "late-outgoing": (
        "Outgoing",
        "if any(each.number > 1 for each in draws):\n    raise SystemExit\nreturn models * 1, state",
        "[outgoing] Own fails: SystemExit",
    ),
}


@pytest.mark.parametrize(
    ("mistake", "engine"),
    [*((mistake, "virtual") for mistake in LEAVING), ("late-merge", "processes")],
)
def test_a_stage_that_would_leave_the_program_is_told_as_one_that_fails(
    mistake: str, engine: str, tmp_path: Path
) -> None:
    seam, text, sentence = LEAVING[mistake]
    assert sentence in sentence_of(tmp_path, seam, text, engine)


@pytest.mark.parametrize("round", [0, 1])
def test_ctrl_c_in_a_stage_is_no_mistake_of_its(round: int, tmp_path: Path) -> None:
    text = f"if context.at.round >= {round}:\n    raise KeyboardInterrupt\nreturn own.clone()"
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "Merge", text)


APART = {
    "missing": ("", "says to_each, and has no method `apart`"),
    "shape": (
        "    def apart(self, length, weights, entropy): return torch.zeros(1)",
        "apart returns for 2 neighbours (1,) torch.float32; it must be float32 of shape (2, 650)",
    ),
    "raises": (
        "    def apart(self, length, weights, entropy): raise ValueError('ap')",
        "fails when it is tried: ValueError: ap",
    ),
    "late": (
        "    def apart(self, length, weights, entropy):\n"
        "        calls.append(1)\n"
        "        return torch.zeros(len(weights) if len(calls) < 4 else 1, length)",
        "[outgoing] Own apart returns for 3 neighbours (1, 650) torch.float32; it must be float32 of shape (3, 650)",
    ),
}


@pytest.mark.parametrize(
    ("mistake", "engine"),
    [*((mistake, "virtual") for mistake in APART), ("shape", "processes"), ("late", "processes")],
)
def test_what_is_for_each_neighbour_is_looked_at_as_what_is_for_all(
    mistake: str, engine: str, tmp_path: Path
) -> None:
    text, sentence = APART[mistake]
    (tmp_path / "own.py").write_text(
        f"{HEADER}class Own(gossip.Outgoing):\n    to_each = True\n"
        f"    def send(self, models, state, draws): return models, state\n{text}\n"
    )
    own = {**SMALL, "outgoing.kind": f"python:{tmp_path / 'own.py'}:Own"}
    with pytest.raises(GossipError) as caught:
        scenarios.run("quickstart", engine=engine, overrides=own, report=False, out=tmp_path / "run")
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("context.judge('x')\nreturn own.clone()", "Own calls context.judge with 'x' of type str"),
        (
            "from gossip.merging.base import Verdict\ncontext.judge(Verdict('x', own[0]))\nreturn own.clone()",
            "Own calls context.judge with a Verdict whose weight is",
        ),
        (
            "from gossip.errors import ProtocolMisuse\nraise ProtocolMisuse('x')",
            "Own fails: ProtocolMisuse: x",
        ),
        ("from gossip.errors import SettingError\nraise SettingError('as I say')", "as I say"),
        ("return own.clone().requires_grad_(True) * 1.0", "Own returns for a model what requires a gradient"),
    ],
)
def test_a_rule_that_misuses_what_is_ours_is_told_of_it(text: str, sentence: str, tmp_path: Path) -> None:
    assert sentence in sentence_of(tmp_path, "Merge", text)


UPDATES = {
    "mixed": (
        "g = gradient(models)\nreturn models - lr * g / g.norm(), state",
        "makes something else of the model where a peer is stepped beside another than where it is alone",
    ),
    "mixed-rates": (
        "return models - lr.mean() * gradient(models), state",
        "makes something else of the model",
    ),
    "asks-nothing": ("return models * 0.9, state", "step never asks for the gradient"),
    "asks-nothing-late": (
        "calls.append(1)\nreturn models - lr * (gradient(models) if len(calls) < 8 else 1), state",
        "[local] optimizer Own step never asks for the gradient",
    ),
    "late": (
        "calls.append(1)\nreturn models - lr * gradient(models)[: 8 - len(calls)], state",
        "[local] optimizer Own",
    ),
    "late-type": (
        "calls.append(1)\nmoved = models - lr * gradient(models)\n"
        "return (moved.double() if len(calls) > 8 else moved), state",
        "[local] optimizer Own step returns as models (",
    ),
}


@pytest.mark.parametrize("mistake", UPDATES)
def test_an_update_that_is_none_is_one_sentence(mistake: str, tmp_path: Path) -> None:
    text, sentence = UPDATES[mistake]
    assert sentence in sentence_of(tmp_path, "LocalUpdate", text)


@pytest.mark.parametrize(
    "text",
    [
        "g = gradient(models)\nreturn models - lr * g / g.norm(dim=1, keepdim=True), state",
        "g = gradient(models)\nlimit = g.abs().topk(5, dim=1).values[:, -1:]\n"
        "return models - lr * g * (g.abs() >= limit), state",
        "g = gradient(models - 0.01 * gradient(models))\nreturn models - lr * g.sign(), state",
        "return models - lr * gradient.losses(models)[:, None], state",
        "g = gradient(models)\nreturn models - lr * (g - g.mean(1, keepdim=True)), state",
    ],
)
def test_an_update_whose_rows_are_computed_by_themselves_is_accepted(text: str, tmp_path: Path) -> None:
    assert run(tmp_path, "LocalUpdate", text).summary["rounds"] == SMALL["stop.rounds"]


VARYING = {
    "merge": ("Merge", "return own + 0.01 * torch.randn(len(own))", "draw from context.rng(purpose)"),
    "outgoing": ("Outgoing", "return models + 0.01 * torch.randn(models.shape), state", "draw from `draws`"),
    "update": (
        "LocalUpdate",
        "return models - lr * gradient(models) * torch.rand(1), state",
        "makes something else of the same models each time",
    ),
}


@pytest.mark.parametrize(
    ("seam", "engine"), [*((seam, "virtual") for seam in VARYING), ("merge", "processes")]
)
def test_what_no_seed_fixes_is_told_at_the_start(seam: str, engine: str, tmp_path: Path) -> None:
    base, text, sentence = VARYING[seam]
    (told,) = run(tmp_path, base, text, engine).summary["warnings"]
    assert sentence in told
    assert "runs with equal seeds will differ" in told
    assert told.count("[") == 1 or seam == "update"


FIXED = {
    "rng": ("Merge", "return own + float(context.rng('mine').normal())"),
    "memory": ("Merge", "self.seen = getattr(self, 'seen', 0) + 1\nreturn own * self.seen ** -0.01"),
    "draws": (
        "Outgoing",
        "return models + torch.tensor([[float(each.number)] for each in draws]) / 1e6, state",
    ),
}


@pytest.mark.parametrize("method", FIXED)
def test_what_seeds_fix_is_not_told_of(method: str, tmp_path: Path) -> None:
    seam, text = FIXED[method]
    assert run(tmp_path, seam, text).summary["warnings"] == []
