"""The targets of `tools/fuzz`, briefly: samples, mutations of them, and every input that once came through."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from typing import Any

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools" / "fuzz"
MUTATIONS = 150


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"fuzz_{name}", TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


decoding = sys.modules["decoding"] = _load("decoding")
samples = sys.modules["targets_samples"] = _load("targets_samples")
targets, run = _load("targets"), _load("run")

FOUND = {
    "task": [
        b"a = " + b"[" * 5000,
        b"a = " + b"{ b = " * 2000,
        b'protocol.kind = "' + b"[" * 2000 + b'"',
        b'algorithm = "' + b"[" * 2000 + b'"',
    ],
    "status": [b"\xff\xfe", b"[1]", b"7", b"[" * 100_000, b'{"a":' * 50_000, b""],
}
"""What came through once."""


@pytest.mark.parametrize("name", targets.TARGETS)
def test_bytes_of_others_are_used_or_refused_in_one_sentence(name):
    target = targets.TARGETS[name]
    seeds = target.seeds()
    draw = random.Random(name)
    for data in (b"", *seeds, *FOUND.get(name, ())):
        target.run(data)
    for _ in range(MUTATIONS):
        target.run(run.mutate(draw, seeds, targets.DICTIONARY))


def test_the_samples_are_what_our_writers_write_and_are_taken():
    for mode, stream in enumerate(samples.frame_seeds()):
        assert stream[0] == mode
    accepted = [targets.read_small(data).kind for data in samples.small_seeds()]
    assert accepted == [
        "hello",
        "welcome",
        "heartbeat",
        "finished",
        "modest-ping",
        "goodbye",
        "wants",
        "prototypes",
    ]


def test_what_a_target_lets_out_is_kept_and_fails_the_run(tmp_path, monkeypatch, capsys):
    def broken(data: bytes) -> None:
        if len(data) > 3:
            raise ValueError("a bug")

    target = targets.Target("broken", broken, lambda: [b"abc"])
    monkeypatch.setitem(sys.modules, "targets", targets)
    monkeypatch.setitem(targets.TARGETS, "broken", target)
    monkeypatch.setattr(run, "FOUND", tmp_path)
    monkeypatch.setattr(run, "_bound_memory", lambda: None)
    count = run.blind("broken", 200, seed=1)
    assert count.executions == 200
    assert len(count.crashes) == 1
    assert len(count.crashes[0].read_bytes()) > 3
    capsys.readouterr()


def test_every_codec_of_the_table_is_fuzzed_and_so_is_a_new_one(monkeypatch, capsys):
    names = {name.partition(" ")[0] for name, _ in decoding.variants()}
    assert names == set(decoding.CODECS.kinds())
    assert decoding.main(["--smoke"]) == 0

    class Broken(decoding.CODECS.settings_for("float32")().load()):
        def received(self, tensors, elements):
            raise ValueError("a bug")

    monkeypatch.setattr(decoding, "variants", lambda: iter([("broken", Broken())]))
    assert decoding.main(["--decodes", "5"]) == 1
    assert "ValueError: a bug" in capsys.readouterr().out
