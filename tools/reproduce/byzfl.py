"""Do our robust rules say what ByzFL's say? Needs ByzFL, which the project does not install.

    pip download --no-deps byzfl && unzip byzfl-*.whl -d /tmp/byzfl      (what it requires is large, and not needed)
    python tools/reproduce/byzfl.py --byzfl /tmp/byzfl [--cases 200]
    python tools/reproduce/byzfl.py --smoke                              (our side only: ByzFL is not needed)

Random models, float64 and float32; the largest difference relative to the largest value. The own model is the first
row, and zero where ByzFL clips: it shortens vectors about the origin (its CenteredClipping refuses every other start)
where ours shorten differences from the own model. After NNM several rows may have the same score, in float32 almost the
same, and Krum may choose another of them. Without it Krum is compared where n - f > 2 (else two models always have the
same score, and ByzFL takes the first); MDA and SMEA on one coordinate (ByzFL takes the first of equal diameters, and of
each covariance one step of a power iteration from a random start, which is exact there).

Left out: ByzFL's geometric median, three Weiszfeld steps from the origin, which is another rule; and its CAF, whose
greatest τ is that of all models, also of those that have no weight any more, so that one far away keeps it from ending.
"""

from __future__ import annotations

import argparse
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gossip.merging.robust.models import Models
from gossip.merging.settings import MERGES


def ours(kind: str, vectors: np.ndarray, **settings: Any) -> np.ndarray:
    """Return the merge of `vectors` (n, d); the first is own."""
    choice = MERGES.validate({"kind": kind, **settings})
    rule = choice.load()(choice)
    count = len(vectors)
    models = Models(
        senders=tuple(f"p{index:03d}" for index in range(count)),
        vectors=list(vectors),
        weights=np.full(count, 1 / count),
        own=vectors[0],
        own_index=0,
        f=settings.get("f") or 0,
    )
    out = np.empty_like(vectors[0])
    rule.apply(models, out, rng=lambda purpose: np.random.default_rng(0))
    return out


def byzfl_aggregators(folder: Path) -> tuple[Any, Any]:
    """Import ByzFL's rules without its front, which imports torchvision and seaborn."""
    package = types.ModuleType("byzfl")
    package.__path__ = [str(folder / "byzfl")]
    sys.modules["byzfl"] = package
    from byzfl.aggregators import aggregators, preaggregators

    return aggregators, preaggregators


@dataclass(frozen=True)
class Pair:
    """One rule, ours and theirs."""

    name: str
    kind: str
    settings: Callable[[int], dict[str, Any]]
    """f -> what ours is told."""
    theirs: Callable[[Any, Any, int], Callable[[np.ndarray], Any]]
    """(ByzFL's rules, its pre-aggregations, f) -> its function of (n, d)."""
    coordinates: int | None = None
    """Of each model so many only."""
    near_min: int = 1
    """Only where n - f is at least that."""
    about_origin: bool = False


def told_f(f: int) -> dict[str, Any]:
    return {"f": f}


PAIRS = (
    Pair("Median", "median", lambda f: {}, lambda rules, before, f: rules.Median()),
    Pair("TrMean", "trimmed-mean", told_f, lambda rules, before, f: rules.TrMean(f)),
    Pair("Meamed", "meamed", told_f, lambda rules, before, f: rules.Meamed(f)),
    Pair("Krum", "krum", told_f, lambda rules, before, f: rules.Krum(f), near_min=3),
    Pair("MultiKrum", "multi-krum", told_f, lambda rules, before, f: rules.MultiKrum(f)),
    Pair("MoNNA", "monna", told_f, lambda rules, before, f: rules.MoNNA(f, idx=0)),
    Pair("MDA", "mda", told_f, lambda rules, before, f: rules.MDA(f), coordinates=1),
    Pair("SMEA", "smea", told_f, lambda rules, before, f: rules.SMEA(f), coordinates=1),
    Pair(
        "CenteredClipping",
        "centered-clipping",
        lambda f: {"tau": 1.5, "iterations": 3},
        lambda rules, before, f: rules.CenteredClipping(L=3, tau=1.5),
        about_origin=True,
    ),
    Pair(
        "NNM + TrMean",
        "nnm+trimmed-mean",
        told_f,
        lambda rules, before, f: then(before.NNM(f), rules.TrMean(f)),
    ),
    Pair("NNM + Krum", "nnm+krum", told_f, lambda rules, before, f: then(before.NNM(f), rules.Krum(f))),
    Pair(
        "Clipping + Median",
        "clipping+median",
        lambda f: {"clip_norm": 2.0},
        lambda rules, before, f: then(before.Clipping(2.0), rules.Median()),
        about_origin=True,
    ),
    Pair(
        "ARC + TrMean",
        "arc+trimmed-mean",
        told_f,
        lambda rules, before, f: then(before.ARC(f), rules.TrMean(f)),
        about_origin=True,
    ),
)


def then(first: Callable[..., Any], second: Callable[..., Any]) -> Callable[[np.ndarray], Any]:
    return lambda vectors: second(first(vectors))


def compare(theirs: tuple[Any, Any] | None, cases: int) -> dict[tuple[str, str], float]:
    """Return (rule, type) -> the largest relative difference; without ByzFL only how many values are not finite."""
    rng = np.random.default_rng(0)
    worst: dict[tuple[str, str], float] = {}
    for _ in range(cases):
        f = int(rng.integers(1, 4))
        n, d = int(rng.integers(2 * f + 1, 14)), int(rng.integers(1, 200))
        for dtype in (np.float64, np.float32):
            base = rng.normal(size=(n, d)) * rng.choice([1, 10])
            base[n - f :] += rng.normal(size=(f, d)) * rng.choice([0, 3, 100])
            for pair in PAIRS:
                if n - f < pair.near_min:
                    continue
                vectors = base[:, : pair.coordinates].astype(dtype)
                if pair.about_origin:
                    vectors[0] = 0
                said = ours(pair.kind, vectors, **pair.settings(f))
                if theirs is None:
                    difference = float(np.count_nonzero(~np.isfinite(said)))
                else:
                    expected = np.asarray(pair.theirs(*theirs, f)(vectors.copy()))
                    difference = float(np.abs(said - expected).max() / np.abs(vectors).max())
                key = pair.name, dtype.__name__
                worst[key] = max(worst.get(key, 0.0), difference)
    return worst


def main(arguments: Sequence[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--byzfl", type=Path, help="folder that holds the package byzfl")
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--smoke", action="store_true", help="our side of a few cases: to see that it works")
    options = parser.parse_args(arguments)
    if options.smoke:
        options.cases, options.byzfl = 3, None
    elif options.byzfl is None or not (options.byzfl / "byzfl").is_dir():
        parser.error("--byzfl must name the folder that holds the package byzfl; or try --smoke")
    torch.set_num_threads(1)
    with np.errstate(divide="ignore"):  # theirs, for a model of norm zero
        worst = compare(byzfl_aggregators(options.byzfl) if options.byzfl else None, options.cases)
    what = "values that are not finite" if options.smoke else "largest relative difference"
    print(f"{what + ', ' + str(options.cases) + ' cases':44}{'float64':>10}{'float32':>10}")
    for name in dict.fromkeys(name for name, _ in worst):
        print(f"{name:44}{worst[name, 'float64']:10.1e}{worst[name, 'float32']:10.1e}")
    return int(options.smoke and any(worst.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
