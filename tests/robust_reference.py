"""The robust rules once more, as plainly as possible: Python lists, no shared code, no speed.

`python tests/robust_reference.py` writes tests/golden/robust_rules.json, which the rules are compared with.
"""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden" / "robust_rules.json"


def distance(a, b):
    return math.sqrt(math.fsum((p - q) ** 2 for p, q in zip(a, b, strict=True)))


def mean(vectors):
    return [math.fsum(column) / len(vectors) for column in zip(*vectors, strict=True)]


def middle(values):
    values = sorted(values)
    n = len(values)
    return (values[(n - 1) // 2] + values[n // 2]) / 2


def median(vectors):
    return [middle(column) for column in zip(*vectors, strict=True)]


def trimmed_mean(vectors, f):
    n = len(vectors)
    return [math.fsum(sorted(column)[f : n - f]) / (n - 2 * f) for column in zip(*vectors, strict=True)]


def meamed(vectors, f):
    out = []
    for column in zip(*vectors, strict=True):
        centre = middle(column)
        nearest = sorted(column, key=lambda value: abs(value - centre))[: len(column) - f]
        out.append(math.fsum(nearest) / len(nearest))
    return out


def krum_order(vectors, f):
    def score(i):
        squared = sorted(distance(vectors[i], other) ** 2 for other in vectors)
        return math.fsum(squared[: len(vectors) - f])

    return sorted(range(len(vectors)), key=lambda i: (score(i), i))


def krum(vectors, f):
    return vectors[krum_order(vectors, f)[0]]


def multi_krum(vectors, f):
    return mean([vectors[i] for i in krum_order(vectors, f)[: len(vectors) - f]])


def geometric_median(vectors):
    """Gradient descent with halving steps: nothing in common with Weiszfeld's iteration."""

    def objective(z):
        return math.fsum(distance(z, x) for x in vectors)

    z, step = mean(vectors), 1.0
    best = objective(z)
    while step > 1e-15:
        away = [max(distance(z, x), 1e-300) for x in vectors]
        gradient = [
            math.fsum((z[k] - x[k]) / d for x, d in zip(vectors, away, strict=True)) for k in range(len(z))
        ]
        tried = [a - step * g for a, g in zip(z, gradient, strict=True)]
        if objective(tried) < best:
            z, best = tried, objective(tried)
            step *= 1.1
        else:
            step /= 2
    return z


def shortened(difference, reach):
    length = math.sqrt(math.fsum(value**2 for value in difference))
    return [value * min(1.0, reach / length) for value in difference] if length else difference


def centered_clipping(vectors, tau, iterations):
    v = vectors[0]
    for _ in range(iterations):
        moves = mean([shortened([a - b for a, b in zip(x, v, strict=True)], tau) for x in vectors])
        v = [a + b for a, b in zip(v, moves, strict=True)]
    return v


def gossip(vectors, weights, reach):
    own = vectors[0]
    out = list(own)
    for x, w in zip(vectors[1:], weights[1:], strict=True):
        move = shortened([a - b for a, b in zip(x, own, strict=True)], reach)
        out = [a + w * b for a, b in zip(out, move, strict=True)]
    return out


def self_centered_clipping(vectors, weights, f):
    near = sorted((distance(x, vectors[0]), w) for x, w in zip(vectors[1:], weights[1:], strict=True))
    byzantine = math.fsum(sorted(weights[1:], reverse=True)[:f])
    squared = math.fsum(w * d**2 for d, w in near[: len(near) - f]) / byzantine
    return gossip(vectors, weights, math.sqrt(squared))


def cs_plus_reach(vectors, weights, f):
    near = sorted((distance(x, vectors[0]), w) for x, w in zip(vectors[1:], weights[1:], strict=True))
    allowed = math.fsum(weights[1:]) - 2 * math.fsum(sorted(weights[1:], reverse=True)[:f])
    reach, total = 0.0, 0.0
    for d, w in near:
        total += w
        if total <= allowed + 1e-9:
            reach = d
    return reach


def cs_plus(vectors, weights, f):
    return gossip(vectors, weights, cs_plus_reach(vectors, weights, f))


def nna(vectors, f):
    nearest = sorted(vectors[1:], key=lambda x: distance(x, vectors[0]))
    return mean([vectors[0], *nearest[: len(vectors) - f - 1]])


def nnm(vectors, f):
    return [mean(sorted(vectors, key=lambda y: distance(x, y))[: len(vectors) - f]) for x in vectors]


def clipping(vectors, reach, own):
    return [
        [
            a + b
            for a, b in zip(own, shortened([p - q for p, q in zip(x, own, strict=True)], reach), strict=True)
        ]
        for x in vectors
    ]


def arc(vectors, f):
    n = len(vectors)
    norms = sorted(distance(x, vectors[0]) for x in vectors)
    return clipping(vectors, norms[n - math.floor(2 * f / n * (n - f)) - 1], vectors[0])


def golden_case(seed, n, d, f):
    rng = random.Random(seed)
    vectors = [[round(rng.gauss(0, 1), 3) for _ in range(d)] for _ in range(n)]
    for attacker in range(n - f, n):
        vectors[attacker] = [round(value + 5, 3) for value in vectors[attacker]]
    raw = [rng.randint(1, 9) for _ in range(n)]
    weights = [value / sum(raw) for value in raw]
    results = {
        "median": median(vectors),
        "trimmed-mean": trimmed_mean(vectors, f),
        "meamed": meamed(vectors, f),
        "krum": krum(vectors, f),
        "multi-krum": multi_krum(vectors, f),
        "geometric-median": geometric_median(vectors),
        "centered-clipping": centered_clipping(vectors, 1.5, 3),
        "self-centered-clipping": self_centered_clipping(vectors, weights, f),
        "cs-plus": cs_plus(vectors, weights, f),
        "nna": nna(vectors, f),
        "nnm+trimmed-mean": trimmed_mean(nnm(vectors, f), f),
        "nnm+median": median(nnm(vectors, f)),
        "nnm+geometric-median": geometric_median(nnm(vectors, f)),
        "clipping+median": median(clipping(vectors, 1.5, vectors[0])),
        "arc+trimmed-mean": trimmed_mean(arc(vectors, f), f),
        "nnm+clipping+median": median(clipping(nnm(vectors, f), 1.5, vectors[0])),
    }
    return {"f": f, "vectors": vectors, "weights": weights, "results": results}


def main():
    cases = [
        golden_case(1, 5, 3, 1),
        golden_case(2, 8, 4, 2),
        golden_case(3, 11, 6, 4),
        golden_case(4, 4, 2, 1),
    ]
    GOLDEN.write_text(json.dumps(cases, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
