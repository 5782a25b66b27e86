"""Parts of `modest.py`: real nodes, and a thousand peers."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from modest_figures import MODELS
from modest_runs import Bench, Wanted

PROCESSES = """
[scenario]
name = "modest-processes"
peers = 12
algorithm = "modest"
[data]
source = "digits"
partition = { kind = "iid" }
[model]
name = "mlp"
[local]
steps = 200
[protocol]
kind = "modest"
sample_size = 4
aggregators = 2
success_fraction = 0.75
ping_timeout_s = 1.0
ping_again_s = 0.5
activity_window = 30
aggregate_timeout_s = 3.0
send_again_s = 4.0
stall_s = 8.0
refresh_s = 3.0
[faults]
list = [
  { at = 5, do = "crash", peers = [6, 7, 8, 9, 10, 11] },
  { at = 15, do = "restart", peers = [6, 7] },
]
[stop]
rounds = 150
"""


def processes(bench: Bench) -> Iterator[str]:
    """Six of twelve nodes killed, two back."""
    import scenarios

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "modest-processes.toml"
        path.write_text(PROCESSES, encoding="utf-8")
        result = scenarios.run(str(path), engine="processes", out=Path(folder) / "run")
        summary = result.summary
        events = {}
        for index in (6, 7):
            home = Path(folder) / "run" / "peers" / f"peer-{index:02d}"
            lines = [json.loads(line) for line in (home / "events.jsonl").read_text().splitlines()]
            started = [line for line in lines if line["event"] == "started"]
            averaged = [json.loads(line) for line in (home / "metrics.jsonl").read_text().splitlines()]
            later = [entry["round"] for entry in averaged if entry["time"] > started[-1]["time"]]
            sent = json.loads((home / "summary.json").read_text())["messages"]["by_type"]
            events[f"peer-{index:02d}"] = (
                f"came back after round {started[-1]['round']}, averaged {len(later) - 1} rounds since, sent "
                f"{sent.get('modest-aggregate', 0)} trained models"
            )
    faults, accuracy = summary["faults"], 100 * summary["accuracy"]["mean"]
    yield f"rounds {summary['rounds']} of 150, accuracy {accuracy:.1f} %, {summary['time']:.1f} s"
    yield f"crashed {faults['crashed']}, restarted {faults['restarted']}"
    yield from (f"{peer}: {words}" for peer, words in events.items())


def scale(bench: Bench) -> Iterator[str]:
    """A thousand peers."""
    overrides = (
        "scenario.peers=1000",
        "protocol.sample_size=13",
        "protocol.activity_window=600",
        "stop.rounds=200",
        "evaluate.every=10",
    )
    (result,) = bench.run([Wanted("modest", 0, overrides)])
    per_round = sum(result["sent"][kind] for kind in MODELS) / 200
    yield (
        f"200 rounds in {result['seconds']:.1f} s on one core; {per_round:.1f} models per round (24.9 expected); "
        f"accuracy {100 * result['curve'][-1]['accuracy_mean']:.1f} %"
    )
