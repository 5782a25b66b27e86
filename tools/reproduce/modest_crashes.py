"""Parts of `modest.py`: 80 of 100 peers crash or fall silent, five a minute or all at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from modest_figures import accuracy_at_end, gaps
from modest_runs import Bench, Wanted

VANISHING = ",".join(map(str, range(20, 100)))


def staged(bench: Bench) -> Iterator[str]:
    """E3."""
    # The others' data are out of reach in the control, too, from the beginning.
    gone = f"faults.list=[{{at=0,do='crash',peers=[{VANISHING}]}}]"
    control = bench.run([Wanted("modest-crash-staged", seed, (gone,)) for seed in bench.seeds])
    alone = np.array([accuracy_at_end(result) for result in control])
    yield f"20 peers alone: accuracy {100 * alone.mean():.2f} ± {100 * alone.std():.2f} %"
    for how, words in (("crash", "processes end"), ("pause", "silence")):
        batches = ",".join(
            f"{{at={300 + 60 * batch},do='{how}',peers={list(range(20 + 5 * batch, 25 + 5 * batch))}}}"
            for batch in range(16)
        )
        overrides = (f"faults.list=[{batches}]", "stop.virtual_seconds=3000")
        results = bench.run([Wanted("modest-crash-staged", seed, overrides) for seed in bench.seeds])
        yield f"{words}:"
        yield from _staged_table(results)


def _staged_table(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    normal, longest, sampled = [], [], []
    for result in results:
        normal.append(np.diff([point["time"] for point in result["curve"] if point["time"] < 300]).mean())
        longest.append(gaps(result).max())
        # After the last crash at 1,200 s, and some time for the views to follow.
        after = next((point["round"] for point in result["curve"] if point["time"] > 1250), 300)
        sampled.append(sum(last > after for last in result["last"][:20]))
    done = sum(result["curve"][-1]["round"] == 300 for result in results)
    yield f"  {done} of {len(results)} runs reach round 300"
    yield (
        f"  longest gap: mean {np.mean(longest):.1f} s = {np.mean(np.array(longest) / normal):.1f} normal rounds of "
        f"{np.mean(normal):.1f} s; worst {np.max(longest):.1f} s"
    )
    yield f"  survivors that are sampled after the crashes: at least {min(sampled)} of 20"
    ours = [accuracy_at_end(result) for result in results]
    yield f"  accuracy {100 * np.mean(ours):.2f} ± {100 * np.std(ours):.2f} %"


def instant(bench: Bench) -> Iterator[str]:
    """E4."""
    for how, words in (("crash", "processes end"), ("pause", "silence")):
        fault = f"faults.list=[{{at=300,do='{how}',peers=[{VANISHING}]}}]"
        limit = "stop.virtual_seconds=1500"
        for aggregators, hardening in ((2, "all"), (1, "all"), (2, "none")):
            overrides = (
                fault,
                limit,
                f"protocol.aggregators={aggregators}",
                f"protocol.hardening='{hardening}'",
            )
            results = bench.run([Wanted("modest-crash-instant", seed, overrides) for seed in bench.seeds])
            finished = [result["curve"][-1]["round"] == 150 for result in results]
            gap = [gaps(result).max() if ok else np.inf for result, ok in zip(results, finished, strict=True)]
            quick = sum(one < 90 for one in gap)
            going = [one for one in gap if np.isfinite(one)]
            longest = f"longest gap {np.mean(going):.0f} s, worst {np.max(going):.0f} s" if going else ""
            yield (
                f"{words:14} a = {aggregators}, hardening {hardening:4}: {sum(finished):2} of {len(results)} finish, "
                f"{quick} within 90 s; {longest}"
            )
