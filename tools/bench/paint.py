"""How large a report is, and how soon a browser shows it: one run of few peers, one of 1000, one of 10,000.

    python tools/bench/paint.py [--peers 8,1000,10000] [--rounds 10] [--smoke]
    python tools/bench/paint.py --reports runs/a/report.html runs/b/report.html

The runs are done first, by the virtual engine; of more than `peers.PEERS_MAX` peers a page shows a sample. Told are
bytes, the first contentful paint as the browser itself dates it, and when all charts are drawn, both in seconds since
the page was asked for and as the median of three; without chromium and its driver the sizes alone. Seconds are those of
a quiet machine, or mean little.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import scenarios
from scenarios.reports.document.peers import PEERS_MAX
from tests.integration.browser import CHROMIUM, DRIVER, MISSING, Browser, browser

BYTES_MAX = {PEERS_MAX: 5_000_000, 10_000: 10_000_000}
"""Peers -> bytes of a page of so many."""

PAINTED_S_MAX = 2.0
"""Of up to `PEERS_MAX` peers."""

REPETITIONS = 3

PAINTED = """
    const [found] = performance.getEntriesByName("first-contentful-paint");
    return found ? found.startTime : null;
"""


def report_of(peers: int, rounds: int, folder: Path) -> Path:
    """Return the page of a run of so many peers, each with a few images of two classes."""
    values: dict[str, Any] = {
        "scenario.peers": peers,
        "data.partition": {
            "kind": "cyclic",
            "classes_per_peer": 2,
            "samples_per_class": 10,
            "overlap": True,
        },
        "model.name": "logistic",
        "topology.kind": "regular",
        "topology.degree": 4,
        "local.epochs": 1,
        "stop.rounds": rounds,
    }
    return scenarios.run("quickstart", overrides=values, out=folder / f"{peers}").folder / "report.html"


def painted(window: Browser, report: Path, repetitions: int) -> tuple[float, float]:
    """Return the seconds to the first contentful paint, and until all charts are drawn."""
    window.look(width=1360, dark=False)
    first, drawn = [], []
    for _ in range(repetitions):
        window.open(report)
        # It is dated when the browser has painted; nobody else may know better.
        drawn.append(window.run("return performance.now()") / 1000)
        first.append(window.run(PAINTED) / 1000)
    return statistics.median(first), statistics.median(drawn)


def measured(reports: Sequence[tuple[int | None, Path]], repetitions: int) -> Iterator[dict[str, Any]]:
    """Yield what each page is and takes; `peers` None: of any number."""
    sizes = [{"peers": peers, "page": str(path), "bytes": path.stat().st_size} for peers, path in reports]
    if CHROMIUM is None or DRIVER is None:
        print(MISSING, file=sys.stderr)
        yield from sizes
        return
    with tempfile.TemporaryDirectory() as profile, browser(Path(profile)) as window:
        for about, (_, path) in zip(sizes, reports, strict=True):
            first_s, drawn_s = painted(window, path.resolve(), repetitions)
            yield {**about, "painted_s": round(first_s, 3), "drawn_s": round(drawn_s, 3)}


def misses(about: dict[str, Any]) -> list[str]:
    """Return what a page is not as promised."""
    peers = about["peers"] or PEERS_MAX
    bound = next(
        (most for known, most in sorted(BYTES_MAX.items()) if peers <= known), max(BYTES_MAX.values())
    )
    found = [f"{about['bytes']} bytes are more than {bound}"] if about["bytes"] > bound else []
    if peers <= PEERS_MAX and about.get("painted_s", 0.0) > PAINTED_S_MAX:
        found.append(f"{about['painted_s']} s to the first paint are more than {PAINTED_S_MAX}")
    return found


def main(arguments: Sequence[str]) -> int:
    """Print what pages are and take; return 1 where one is not as promised."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", default="8,1000,10000", help="of each run")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--reports", type=Path, nargs="+", help="pages that are there, in place of runs")
    parser.add_argument("--smoke", action="store_true", help="the smallest form")
    asked = parser.parse_args(arguments)
    counts, rounds, repetitions = [int(each) for each in asked.peers.split(",")], asked.rounds, REPETITIONS
    if asked.smoke:
        counts, rounds, repetitions = [5], 1, 1
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        if asked.reports:
            reports: list[tuple[int | None, Path]] = [(None, path) for path in asked.reports]
        else:
            reports = [(peers, report_of(peers, rounds, Path(folder))) for peers in counts]
        for about in measured(reports, repetitions):
            print(json.dumps(about))
            # A busy machine breaks the smallest form's seconds.
            for miss in () if asked.smoke else misses(about):
                print(f"{about['page']}: {miss}")
                missed += 1
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
