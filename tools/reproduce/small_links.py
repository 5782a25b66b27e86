"""What small links can carry: codecs, parts, sparse graphs, outer steps and the merge at the end, in one table.

    python tools/reproduce/small_links.py [ROW ...] [--engine virtual] [--seeds 0-4] [--out runs/small-links]
                                          [--list] [--json] [--smoke]

Twenty peers, digits, 60 rounds; each row is a scenario of the library beside another, with what must hold and what was
measured. Accuracies are means of the peers' own models over the seeds ("worst": the worst peer's, "merged": their
average's). Finished runs are kept in the folder and not done again. The exit status is 1 where a row does not hold.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import small_links_codecs
import small_links_graphs
import small_links_partial
import small_links_parts
from link_runs import Row, Runs

from scenarios import sweep

MODULES = (small_links_codecs, small_links_parts, small_links_partial, small_links_graphs)
ROWS: Mapping[str, Callable[[Runs], Row]] = {
    row.__name__.replace("_", "-"): row for module in MODULES for row in module.ROWS
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the rows; return 1 where one does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="default: all")
    parser.add_argument("--engine", choices=("virtual", "processes"), default="virtual")
    parser.add_argument("--seeds", default="0-4")
    parser.add_argument("--out", type=Path, default=Path("runs/small-links"))
    parser.add_argument("--list", action="store_true", help="name the rows")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--smoke", action="store_true", help="four rounds of five peers, one seed: does it run?"
    )
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.rows) - set(ROWS)):
        parser.error(f"no row '{unknown[0]}'; valid: {', '.join(ROWS)}")
    if options.list:
        for name, row in ROWS.items():
            print(f"{name:28}{(row.__doc__ or '').splitlines()[0]}")
        return 0
    out = Path(tempfile.mkdtemp(prefix="small-links-")) if options.smoke else options.out
    runs = Runs(sweep.parse_seeds(options.seeds), options.engine, out, smoke=options.smoke)
    rows = []
    for name in options.rows or ROWS:
        rows.append(row := ROWS[name](runs))
        if not options.json:
            print(
                f"{'holds' if row.ok else 'FAILS'}  {row.name}: {row.must}\n       {row.measured}", flush=True
            )
    if options.json:
        print(json.dumps([row._asdict() for row in rows], indent=1))
    return 0 if options.smoke or all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
