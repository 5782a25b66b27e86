"""The wire's benchmark runs: it uses the node's own classes, and a changed constructor once left it behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_benchmark_of_the_wire_runs_in_its_smallest_form() -> None:
    command = [sys.executable, "tools/bench/wire.py", "--sizes-mb", "0.01", "--repetitions", "1"]
    done = subprocess.run(
        [*command, "--messages", "100", "--models", "3", "--json"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    (row,) = result["throughput"]
    assert set(row["mb_per_s"]) == {"gossip", "ssl", "trio ssl", "raw"}
    assert all(speed > 0 for speed in row["mb_per_s"].values())
    assert result["overhead_bytes"]["0.01 MB"] < 300
