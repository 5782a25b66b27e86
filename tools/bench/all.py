"""Every bench in one table: ratio, limit, memory; and two commits beside each other.

    python tools/bench/all.py [BENCH ...] [--compare REV] [--turns 3] [--full] [--json] [--smoke]

Each bench runs in a process of its own and tells its figures as JSON, of which the table has those that are ratios to
something measured in the same run, or peaks of memory. A limit is the bench's own, or stands here; where one is passed
the row says so and the exit code is 1. Without `--full` benches are as large as fits a coffee break.

`--compare REV` checks that commit out beside this one and runs each bench in turns, there first, `--turns` times;
the columns are medians, and `here / there` is the median of the turns' quotients: a machine that slows down slows both.
What is not committed here is measured, too. Of the virtual engine's speed `engines.py` tells two commits apart by a
per cent or two: their engines take turns of a second each beside one plain loop.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
RUN_S_MAX = 3600.0


@dataclass(frozen=True)
class Bench:
    """One tool of this folder that tells JSON."""

    quick: Sequence[str] = ()
    """Arguments of a run that takes a minute or two."""
    least: Mapping[str, float] = field(default_factory=dict)
    """Figure -> what it must reach."""
    most: Mapping[str, float] = field(default_factory=dict)
    """Figure -> what it must not pass."""


BENCHES: Mapping[str, Bench] = {
    "coding": Bench(("--numbers", "5000000", "--threads", "1")),
    "large_data": Bench(("--gigabytes", "0.5"), least={"ratio": 0.9}, most={"peak MB": 1500}),
    "learning": Bench(("--peers", "100", "--repetitions", "3")),
    "local_step": Bench(("--models", "cnn", "--repetitions", "3")),
    "memory": Bench(("--parameters", "5"), most={"× model": 4.0, "status s": 0.3}),
    "merging": Bench(("average", "robust", "--repetitions", "3")),
    "push": Bench(("--peers", "50", "--updates", "50")),
    "scaling": Bench(("--peers", "2000,8000"), most={"growth": 1.5}),
    "virtual": Bench(("--quick", "--repetitions", "3")),
    "wire": Bench(("--sizes-mb", "1", "10", "--repetitions", "3", "--models", "20")),
}

RATIOS = ("ratio", "share", "growth", "plain / node", "× model", "batched × plain loop", "vmap × plain loop")
FURTHER = ("peak MB", "peak_mb", "status s", "ms_per_update", "us_per_event")
NAMES = (
    "what",
    "name",
    "codec",
    "who",
    "workload",
    "model",
    "variant",
    "protocol",
    "merge",
    "algorithm",
    "peers",
)


def is_figure(key: str) -> bool:
    """Return whether a number of a bench says the same on a faster machine, or is one that people ask for."""
    return key in RATIOS or key in FURTHER or key.startswith("/ ") or key.endswith(", MB")


def figures(said: Any, where: tuple[str, ...] = ()) -> Iterator[tuple[str, str, float, float | None]]:
    """Yield (row, figure, value, what the bench itself wants at least) of what a bench tells, however it is nested."""
    if isinstance(said, list):
        for each in said:
            yield from figures(each, where)
        return
    if not isinstance(said, dict):
        return
    names = [str(said[key]) for key in (*NAMES, "local update") if isinstance(said.get(key), (str, int))]
    if "size_mb" in said:
        names.append(f"{said['size_mb']} MB")
    here = (*where, *names)
    for key, value in said.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool) and is_figure(key):
            wanted = said.get("wanted") if key == "share" else None
            yield " · ".join(here), key, float(value), wanted
        elif key == "gossip_against":
            for other, ratio in value.items():
                yield " · ".join(here), f"gossip / {other}", float(ratio), None
        elif isinstance(value, (dict, list)):
            yield from figures(value, here if isinstance(said, dict) and names else (*where, key))


def measured(
    name: str, root: Path, arguments: Sequence[str]
) -> dict[tuple[str, str], tuple[float, float | None]]:
    """Run a bench of the working tree at `root`; return (row, figure) -> value and what it wants."""
    done = subprocess.run(
        [sys.executable, str(root / "tools" / "bench" / f"{name}.py"), *arguments, "--json"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
        check=False,
    )
    start = min((at for at in map(done.stdout.find, "[{") if at >= 0), default=-1)
    if start < 0:
        raise SystemExit(f"{name}: {(done.stderr.strip().splitlines() or ['it says nothing'])[-1]}")
    return {
        (row, key): (value, wanted) for row, key, value, wanted in figures(json.loads(done.stdout[start:]))
    }


@contextlib.contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """Yield a working tree of a commit, and remove it afterwards.

    Raises:
        SystemExit: there is no such commit.
    """
    with tempfile.TemporaryDirectory(prefix="gossip-bench-") as folder:
        there = Path(folder) / "there"
        git = ["git", "-C", str(ROOT), "worktree"]
        done = subprocess.run(
            [*git, "add", "--detach", str(there), revision], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"--compare {revision}: {done.stderr.strip().splitlines()[-1]}")
        try:
            yield there
        finally:
            subprocess.run([*git, "remove", "--force", str(there)], check=False, capture_output=True)


def rows_of(name: str, turns: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the table's rows of one bench, from what each turn measured here and there."""
    bench, rows = BENCHES[name], []
    for row, key in turns[0]["here"]:
        values = [turn["here"][row, key][0] for turn in turns if (row, key) in turn["here"]]
        others = [turn["there"].get((row, key), (None,))[0] for turn in turns]
        least = turns[0]["here"][row, key][1] or bench.least.get(key)
        most = bench.most.get(key)
        value = statistics.median(values)
        known = [(a, b) for a, b in zip(values, others, strict=False) if b]
        rows.append(
            {
                "bench": name,
                "what": row,
                "figure": key,
                "here": value,
                "limit": f"≥ {least:g}" if least else f"≤ {most:g}" if most else "",
                "holds": not (least and value < least) and not (most and value > most),
                "there": statistics.median(b for _, b in known) if known else None,
                "here / there": statistics.median(a / b for a, b in known) if known else None,
            }
        )
    return rows


def show(rows: Sequence[Mapping[str, Any]], *, compared: str | None) -> None:
    """Print the table."""
    table = Table(title="all benches" + (f", beside {compared}" if compared else ""), title_justify="left")
    columns = ["bench", "what", "figure", "here", "limit", *(["there", "here / there"] if compared else [])]
    for column in columns:
        table.add_column(column, justify="left" if column in ("bench", "what", "figure") else "right")
    for row in rows:
        cells = [row[column] for column in columns]
        shown = [
            "" if cell is None else f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells
        ]
        if not row["holds"]:
            shown[4] = f"[red]{shown[4]}: no[/red]"
        table.add_row(*shown)
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def main(arguments: Sequence[str]) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bench", nargs="*", help=f"of: {', '.join(BENCHES)}; default: all")
    parser.add_argument("--compare", metavar="REV", help="a commit to measure beside this working tree")
    parser.add_argument("--turns", type=int, default=3, help="with --compare")
    parser.add_argument("--full", action="store_true", help="as large as each bench is by itself")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--smoke", action="store_true", help="one bench in its smallest form: to see that it works"
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.bench if name not in BENCHES]
    if unknown:
        parser.error(f"unknown bench {unknown[0]!r}; valid: {', '.join(BENCHES)}")
    names = options.bench or (["coding"] if options.smoke else list(BENCHES))
    rows = []
    with contextlib.ExitStack() as stack:
        there = None if options.compare is None else stack.enter_context(checked_out(options.compare))
        for name in names:
            given = ["--smoke"] if options.smoke else [] if options.full else [*BENCHES[name].quick]
            turns = []
            for _ in range(1 if there is None else options.turns):
                before = {} if there is None else measured(name, there, given)
                turns.append({"there": before, "here": measured(name, ROOT, given)})
            found = rows_of(name, turns)
            rows += found
            if not options.json:
                print(f"{name}: {len(found)} figures", file=sys.stderr, flush=True)
    if options.json:
        print(json.dumps(rows, indent=1))
    else:
        show(rows, compared=options.compare)
    return int(not options.smoke and not all(row["holds"] for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
