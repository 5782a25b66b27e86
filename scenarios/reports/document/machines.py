"""Where and when the runs of a page were made."""

from __future__ import annotations

from collections.abc import Sequence

from scenarios.reports.runs import Run


def lines(runs: Sequence[Run]) -> list[str]:
    """Return one line for each machine and set of packages."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        told = run.environment
        packages = "".join(f", {name} {number}" for name, number in told["packages"].items())
        where = f"{told['platform']}, {told['cpu_count']} CPUs, Python {told['python']}{packages}"
        found.setdefault(where, []).append(run)
    said = []
    for where, there in found.items():
        times = sorted(str(run.environment["started"]) for run in there)
        when = times[0] if times[0] == times[-1] else f"{times[0]} to {times[-1]}"
        said.append(f"{len(there)} run{'s' if len(there) > 1 else ''}, started {when}, on {where}.")
    return said
