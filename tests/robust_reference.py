"""The robust rules once more, as plainly as possible: Python lists, no shared code, no speed; numpy for eigenvalues.

`python tests/robust_reference.py` writes tests/golden/robust_rules.json, which the rules are compared with.
"""

from __future__ import annotations

import json
import math
import random
from itertools import combinations
from pathlib import Path

import numpy as np

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


def mda(vectors, f):
    def diameter(members):
        return max((distance(a, b) for a, b in combinations(members, 2)), default=0.0)

    def spread(members):
        return math.fsum(distance(a, b) ** 2 for a, b in combinations(members, 2))

    sets = list(combinations(vectors, len(vectors) - f))
    least = min(map(diameter, sets))
    sets = [members for members in sets if diameter(members) <= least * (1 + 1e-12)]
    return mean(min(sets, key=spread))


def covariance(vectors, weights):
    """The d × d matrix itself, not the inner products."""
    total = math.fsum(weights)
    size = range(len(vectors[0]))
    mu = [math.fsum(w * x[k] for w, x in zip(weights, vectors, strict=True)) / total for k in size]
    away = [[x[k] - mu[k] for k in size] for x in vectors]
    matrix = [
        [math.fsum(w * a[j] * a[k] for w, a in zip(weights, away, strict=True)) / total for k in size]
        for j in size
    ]
    return mu, away, np.linalg.eigh(np.array(matrix))


def smea(vectors, f):
    sets = combinations(vectors, len(vectors) - f)
    return mean(min(sets, key=lambda members: covariance(members, [1] * len(members))[2][0][-1]))


def caf(vectors, f):
    n = len(vectors)
    weights, best, result = [1.0] * n, math.inf, None
    while sum(weights) > n - 2 * f:
        mu, away, (values, directions) = covariance(vectors, weights)
        if values[-1] < best:
            best, result = values[-1], mu
        tau = [math.fsum(p * q for p, q in zip(a, directions[:, -1], strict=True)) ** 2 for a in away]
        most = max(t for t, w in zip(tau, weights, strict=True) if w > 1e-9)
        weights = [
            max(0.0, w * (1 - t / most)) if w > 1e-9 else 0.0 for t, w in zip(tau, weights, strict=True)
        ]
    return result


def ios(vectors, weights, f):
    def centre(members):
        total = math.fsum(weights[i] for i in members)
        return [
            math.fsum(weights[i] * vectors[i][k] for i in members) / total for k in range(len(vectors[0]))
        ]

    members = list(range(len(vectors)))
    for _ in range(f):
        middle_of_them = centre(members)
        members.remove(max(members[1:], key=lambda i: distance(vectors[i], middle_of_them)))
    return centre(members)


def balance(vectors, reach):
    own = vectors[0]
    length = math.sqrt(math.fsum(value**2 for value in own))
    near = [x for x in vectors[1:] if distance(x, own) <= reach * length]
    return mean([own, mean(near)]) if near else own


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
        "mda": mda(vectors, f),
        "smea": smea(vectors, f),
        "caf": caf(vectors, f),
        "ios": ios(vectors, weights, f),
        "balance": balance(vectors, 1.0),
        "nnm+mda": mda(nnm(vectors, f), f),
        "nnm+smea": smea(nnm(vectors, f), f),
        "clipping+caf": caf(clipping(vectors, 1.5, vectors[0]), f),
        "arc+ios": ios(arc(vectors, f), weights, f),
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
