"""The wire's benchmark runs: it uses the node's own classes, and a changed constructor once left it behind."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BENCHMARK = Path(__file__).parents[2] / "tools/bench/wire.py"


def test_the_benchmark_of_the_wire_runs_in_its_smallest_form(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("bench_wire", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    wire = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(wire)

    @contextmanager
    def other_thread() -> Iterator[Any]:
        """A second process would take seconds to import torch."""
        ours, theirs = multiprocessing.Pipe()
        thread = threading.Thread(target=wire.receiver, args=(theirs,))
        thread.start()
        yield ours
        ours.send(None)
        thread.join()
        ours.close()
        theirs.close()

    monkeypatch.setattr(wire, "other_process", other_thread)
    monkeypatch.setattr(wire, "use_core", lambda number: None)
    smallest = ["--sizes-mb", "0.01", "--repetitions", "1", "--models", "2", "--messages", "50", "--json"]
    monkeypatch.setattr(sys, "argv", [str(BENCHMARK), *smallest])
    wire.main()
    result = json.loads(capsys.readouterr().out)
    (row,) = result["throughput"]
    assert set(row["mb_per_s"]) == {"gossip", "ssl", "trio ssl", "raw"}
    assert all(speed > 0 for speed in row["mb_per_s"].values())
    assert result["overhead_bytes"]["0.01 MB"] < 300
