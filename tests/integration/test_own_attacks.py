"""What is wrong with users' own attacks and codecs, or with how a stage is named or made, is one sentence."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

import scenarios
from gossip import cli
from gossip.errors import GossipError, SettingError
from tests.integration.homes import make_homes
from tests.integration.own_stages import HEADER, KEYS, METHODS, SMALL


@pytest.fixture(autouse=True)
def nothing_to_collect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of a few small peers leave nothing behind, and to look for it would take longer than they do."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


ATTACKS = {
    "nothing": (
        "    def craft(self, known): return None",
        "craft returns for a model NoneType; it must be float32",
    ),
    "short": ("    def craft(self, known): return known.own[:-1]", "craft returns for a model (649,)"),
    "numpy": ("    def craft(self, known): return known.own.numpy()", "craft returns for a model ndarray"),
    "raises": ("    def craft(self, known): raise ValueError('a')", "Own fails: ValueError: a"),
    "made": (
        "    def __init__(self, settings, scene): raise ValueError('a')",
        "[attack] Own fails: ValueError: a",
    ),
    "poison": (
        "    def poison(self, shard, rng): return None",
        "poison returns NoneType; it must be a Shard(x, y)",
    ),
    "poison-shape": (
        "    def poison(self, shard, rng): return type(shard)(shard.x.flatten(1), shard.y)",
        "poison returns x (n, 64) torch.float32; it must be (n, 1, 8, 8) torch.float32",
    ),
    "poison-fewer": (
        "    def poison(self, shard, rng): return type(shard)(shard.x[1:], shard.y)",
        "targets; it must be one each, and one at least",
    ),
    "success": ("    def success(self, evaluate): return 'yes'", "[attack] success: Own fails: ValueError"),
}


@pytest.mark.parametrize(
    ("mistake", "engine"),
    [
        *((mistake, "virtual") for mistake in ATTACKS),
        *((mistake, "processes") for mistake in ("raises", "poison")),
    ],
)
def test_an_attack_that_is_none_is_one_sentence(mistake: str, engine: str, tmp_path: Path) -> None:
    text, sentence = ATTACKS[mistake]
    (tmp_path / "own.py").write_text(f"{HEADER}class Own(Attack):\n{text}\n")
    own = {
        **SMALL,
        "scenario.strict": False,
        "attack.kind": f"python:{tmp_path / 'own.py'}:Own",
        "attack.count": 1,
    }
    with pytest.raises(SettingError) as caught:
        scenarios.run("quickstart", engine=engine, overrides=own, report=False, out=tmp_path / "run")
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("[attack]")
    assert "own.py" in str(caught.value)


SECTIONS = [*KEYS.values(), "codec.kind", "objective.kind", "logger.kind", "data.partition.kind"]


@pytest.mark.parametrize(
    ("key", "file"),
    [
        *((key, "none.py") for key in SECTIONS),
        *((key, "own.py") for key in SECTIONS[:-1]),
    ],  # any callable is one
)
def test_a_section_is_named_once(key: str, file: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("class Own:\n    pass\n")
    own = {**SMALL, key: f"python:{tmp_path / file}:Own", **({"attack.count": 1} if "attack" in key else {})}
    with pytest.raises(SettingError) as caught:
        scenarios.run("quickstart", overrides=own, report=False, out=tmp_path / "run")
    assert str(caught.value).count("[") == 1
    assert f"kind = 'python:{tmp_path / file}:Own'" in str(caught.value)


CODEC = """
from gossip.wire.codecs.halves import BFloat16
calls = []
class Own(BFloat16):
    def late(self):
        calls.append(1)
        return len(calls) > 12
"""
CODECS = {
    "coded": (
        "    def coded(self, vectors, draws):\n"
        "        found = super().coded(vectors, draws)\n"
        "        return found[:, :1] if self.late() else found\n",
        "virtual",
        "[codec] Own coded returns (",
    ),
    "encode": (
        "    def encode(self, vector, draws):\n"
        "        return super().encode(vector[:9] if self.late() else vector, draws)\n",
        "processes",
        "[codec] Own encode makes other tensors of 650 numbers than specs says",
    ),
    "leaves": (
        "    def coded(self, vectors, draws):\n"
        "        if self.late():\n"
        "            raise SystemExit(3)\n"
        "        return super().coded(vectors, draws)\n",
        "virtual",
        "[codec] Own fails: SystemExit: 3",
    ),
}


@pytest.mark.parametrize("mistake", CODECS)
def test_what_a_codec_makes_in_the_middle_of_a_run_is_looked_at(mistake: str, tmp_path: Path) -> None:
    text, engine, sentence = CODECS[mistake]
    (tmp_path / "own.py").write_text(CODEC + text)
    own = {**SMALL, "codec.kind": f"python:{tmp_path / 'own.py'}:Own", "stop.rounds": 20}
    with pytest.raises(GossipError) as caught:
        scenarios.run("quickstart", engine=engine, overrides=own, report=False, out=tmp_path / "run")
    assert sentence in str(caught.value)


MADE = {
    "merge": ("merge.kind", "Merge", "    def check(self, space): raise ValueError('checked')\n"),
    "outgoing": ("outgoing.kind", "Outgoing", "    def __init__(self, settings): raise ValueError('made')\n"),
    "update": (
        "local.optimizer.kind",
        "LocalUpdate",
        "    def rows(self, space): raise ValueError('rows')\n",
    ),
}


@pytest.mark.parametrize("mistake", MADE)
def test_a_stage_that_cannot_be_made_is_one_sentence_of_a_node_too(
    mistake: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    key, seam, text = MADE[mistake]
    (tmp_path / "own.py").write_text(f"{HEADER}{METHODS[seam]}        return None\n{text}")
    peers = make_homes(tmp_path, ("alice", "bob"))
    kind = f"{key}=python:{tmp_path / 'own.py'}:Own"
    argv = ["check", "--peers", str(peers), "--home", str(tmp_path / "alice"), "--set", kind]
    assert cli.run(argv) == 2
    said = capfd.readouterr().err
    assert "fails when it is tried: ValueError" in said
    assert "Traceback" not in said


def test_a_rule_that_fails_to_correct_averages_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import gossip\n"
        "class Late:\n"
        "    def memory(self): return None\n"
        "    def needs(self, memory, at): return False\n"
        "    def change(self, *given): raise ValueError('no more')\n"
        "class Own(gossip.Merge):\n"
        "    def __call__(self, own, own_weight, received, *, context): return own.clone()\n"
        "    @classmethod\n"
        "    def correction(cls, settings, space): return Late()\n"
    )
    own = {**SMALL, "merge.kind": f"python:{tmp_path / 'own.py'}:Own"}
    with pytest.raises(SettingError, match=r"\[merge\] Late fails: ValueError: no more"):
        scenarios.run("quickstart", overrides=own, report=False, out=tmp_path / "run")
