"""Do our robust rules say what ByzFL's say? Needs ByzFL, which the project does not install.

    pip download --no-deps byzfl && unzip byzfl-*.whl -d /tmp/byzfl      (what it requires is large, and not needed)
    python tools/reproduce/byzfl.py --byzfl /tmp/byzfl [--cases 200]

Random models, float64 and float32; the largest difference relative to the largest value. The own model is the first
row, and zero where ByzFL clips: it shortens vectors about the origin (its CenteredClipping refuses every other start)
where ours shorten differences from the own model. Left out: ByzFL's geometric median, three Weiszfeld steps from the
origin, which is another rule. After NNM in float32 Krum may choose another row of almost the same score.
"""

from __future__ import annotations

import argparse
import sys
import types
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


def pairs(rules: Any, before: Any, f: int) -> dict[str, tuple[str, dict[str, Any], Any]]:
    """Return name -> (our kind, settings, ByzFL's function of (n, d))."""
    nnm, clip, arc = before.NNM(f), before.Clipping(2.0), before.ARC(f)
    trimmed = rules.TrMean(f)
    return {
        "Median": ("median", {}, rules.Median()),
        "TrMean": ("trimmed-mean", {"f": f}, trimmed),
        "Meamed": ("meamed", {"f": f}, rules.Meamed(f)),
        "Krum": ("krum", {"f": f}, rules.Krum(f)),
        "MultiKrum": ("multi-krum", {"f": f}, rules.MultiKrum(f)),
        "MoNNA": ("monna", {"f": f}, rules.MoNNA(f, idx=0)),
        "CenteredClipping": (
            "centered-clipping",
            {"tau": 1.5, "iterations": 3},
            lambda x: rules.CenteredClipping(L=3, tau=1.5)(x),
        ),
        "NNM + TrMean": ("nnm+trimmed-mean", {"f": f}, lambda x: trimmed(nnm(x))),
        "NNM + Krum": ("nnm+krum", {"f": f}, lambda x: rules.Krum(f)(nnm(x))),
        "Clipping + Median": (
            "clipping+median",
            {"clip_norm": 2.0},
            lambda x: rules.Median()(clip(x.copy())),
        ),
        "ARC + TrMean": ("arc+trimmed-mean", {"f": f}, lambda x: trimmed(arc(x.copy()))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--byzfl", type=Path, required=True, help="folder that holds the package byzfl")
    parser.add_argument("--cases", type=int, default=200)
    options = parser.parse_args()
    rules, before = byzfl_aggregators(options.byzfl)
    torch.set_num_threads(1)
    np.seterr(divide="ignore")  # theirs, for a model of norm zero
    rng = np.random.default_rng(0)
    worst: dict[tuple[str, str], float] = {}
    for _ in range(options.cases):
        f = int(rng.integers(1, 4))
        n, d = int(rng.integers(2 * f + 1, 14)), int(rng.integers(1, 200))
        for dtype in (np.float64, np.float32):
            base = rng.normal(size=(n, d)) * rng.choice([1, 10])
            base[n - f :] += rng.normal(size=(f, d)) * rng.choice([0, 3, 100])
            for name, (kind, settings, theirs) in pairs(rules, before, f).items():
                vectors = base.astype(dtype)
                if name.startswith(("Clipping", "ARC", "Centered")):
                    vectors[0] = 0
                expected = np.asarray(theirs(vectors.copy()))
                difference = np.abs(ours(kind, vectors, **settings) - expected).max() / np.abs(vectors).max()
                key = name, dtype.__name__
                worst[key] = max(worst.get(key, 0.0), float(difference))
    print(
        f"{'largest relative difference, ' + str(options.cases) + ' cases':44}{'float64':>10}{'float32':>10}"
    )
    for name in dict.fromkeys(name for name, _ in worst):
        print(f"{name:44}{worst[name, 'float64']:10.1e}{worst[name, 'float32']:10.1e}")


if __name__ == "__main__":
    main()
