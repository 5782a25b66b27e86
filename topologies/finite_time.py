"""Kinds whose matrices average exactly after finitely many rounds: base-(k+1) for any number of peers, groups, pairs.

Base-(k+1) is after the idea of Takezawa et al. 2023 (arXiv 2305.11420); the construction is our own. Let b = k + 1 and
n = Σ_l a_l b^{p_l} with digits a_l from 1 to k and p_1 > p_2 > …. V_l are consecutive runs of a_l · b^{p_l} peers, each
of a_l blocks of b^{p_l}; T_1 = p_1 + [a_1 > 1]. In round t, for every l at once, with o a peer's place in V_l:

    t < p_l                  the b peers that differ in digit t of (o mod b^{p_l}) average, weights 1/b
    t = p_l and a_l > 1      the a_l peers of equal place in their blocks average, weights 1/a_l
    t = T_1 + l              (l from 0, not for the last) R are all peers behind V_l: the q-th of them meets the q-th of
                             each block of V_l, with weights w = |V_l| / ((|V_l| + |R|) · a_l)
    T_1 + l < t <= T_1 + l + p_l    inside the blocks of V_l again, by digit t - T_1 - l - 1

R fits into one block, for it is less than b^{p_l}. When both are uniform, the meeting gives all of R the right mean and
each block of V_l, too; R stays uniform where it is met later, and V_l needs only its blocks averaged. All matrices are
symmetric, doubly stochastic and of degree k at most, and the product over a period is 11ᵀ/n.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import networkx as nx
import numpy as np

from topologies.errors import TopologyError
from topologies.request import Request


class Run(NamedTuple):
    """V_l: `blocks` blocks of `base` ** `power` consecutive peers, the first at `start`."""

    start: int
    blocks: int
    base: int
    power: int

    @property
    def block(self) -> int:
        """Peers in one block."""
        return int(self.base**self.power)

    @property
    def end(self) -> int:
        """The first peer behind it."""
        return self.start + self.blocks * self.block


def _base(request: Request) -> int:
    degree = 1 if request.degree is None else request.degree
    if degree > max(1, request.peers - 1):
        raise TopologyError(
            f"{request.kind}: degree = {degree} is too large for {request.peers} peers; at most {request.peers - 1}"
        )
    return degree + 1


def _runs(peers: int, base: int) -> list[Run]:
    """Return V_0, V_1, …, by the digits of `peers`."""
    power, block = 0, 1
    while block * base <= peers:
        power, block = power + 1, block * base
    runs, start = [], 0
    while power >= 0:
        blocks = (peers - start) // block
        if blocks:
            runs.append(Run(start, blocks, base, power))
            start = runs[-1].end
        power, block = power - 1, block // base
    return runs


def base_period(request: Request) -> int:
    """Return T_1, and 1 + p_1 more where the number of peers has two digits or more."""
    runs = _runs(request.peers, _base(request))
    power = runs[0].power
    return power + (runs[0].blocks > 1) + (1 + power if len(runs) > 1 else 0) or 1


def base(request: Request) -> nx.Graph[int]:
    """Base-(k+1): in each round of its turn another sparse graph, whose product over a period is exact averaging."""
    runs = _runs(request.peers, _base(request))
    place = request.round % base_period(request)
    first = runs[0].power + (runs[0].blocks > 1)
    graph: nx.Graph[int] = nx.empty_graph(request.peers)
    for number, run in enumerate(runs):
        since = place - first - number
        if place < run.power:
            _average(graph, _by_digit(run, place))
        elif place == run.power and run.blocks > 1:
            _average(graph, (range(run.start + o, run.end, run.block) for o in range(run.block)))
        elif since == 0 and number < len(runs) - 1:
            _meet(graph, run, request.peers)
        elif 0 < since <= run.power and number < len(runs) - 1:
            _average(graph, _by_digit(run, since - 1))
    return graph


def _by_digit(run: Run, digit: int) -> Iterator[Sequence[int]]:
    """Yield the groups of a run's peers that differ in one digit of their places in their blocks."""
    step = run.base**digit
    for first in range(run.start, run.end):
        if (first - run.start) // step % run.base == 0:
            yield range(first, first + step * run.base, step)


def _average(graph: nx.Graph[int], groups: Iterator[Sequence[int]]) -> None:
    """Join all peers of each group by equal weights."""
    for group in groups:
        weight = 1.0 / len(group)
        graph.add_edges_from(
            (i, j, {"weight": weight}) for place, i in enumerate(group) for j in group[place + 1 :]
        )


def _meet(graph: nx.Graph[int], run: Run, peers: int) -> None:
    """Join the q-th peer behind a run to the q-th of each of its blocks."""
    size = run.end - run.start
    weight = size / ((size + peers - run.end) * run.blocks)
    graph.add_edges_from(
        (run.start + block * run.block + q, behind, {"weight": weight})
        for q, behind in enumerate(range(run.end, peers))
        for block in range(run.blocks)
    )


def _factors(peers: int) -> list[int]:
    """Return the prime factors, ascending."""
    found, factor, left = [], 2, peers
    while factor * factor <= left:
        while left % factor == 0:
            found.append(factor)
            left //= factor
        factor += 1
    return [*found, left] if left > 1 else found


def groups_period(request: Request) -> int:
    """Return how many prime factors the number of peers has."""
    return max(1, len(_factors(request.peers)))


def groups(request: Request) -> nx.Graph[int]:
    """In turn for each prime factor f of n, groups of f in which everybody averages: exact after one turn of them."""
    factors = _factors(request.peers)
    graph: nx.Graph[int] = nx.empty_graph(request.peers)
    if not factors:
        return graph
    place = request.round % len(factors)
    factor = factors[place]
    step = int(np.prod(factors[:place], dtype=np.int64))
    for first in range(request.peers):
        if first // step % factor == 0:
            group = range(first, first + step * factor, step)
            graph.add_edges_from((i, j) for at, i in enumerate(group) for j in group[at + 1 :])
    return graph


def pairs(request: Request) -> nx.Graph[int]:
    """In every round everybody in a pair drawn at random (one alone where n is odd), each kept with `probability` (1).

    The squared distance from the mean falls by a factor of 1 - n/(2(n-1)), about a half, per round on average.
    """
    n = request.peers
    rng = np.random.Generator(np.random.PCG64(request.entropy()))
    order = rng.permutation(n)[: n // 2 * 2].reshape(-1, 2)
    if request.probability is not None:
        order = order[rng.random(n // 2) < request.probability]
    graph: nx.Graph[int] = nx.empty_graph(n)
    graph.add_edges_from((i, j) for i, j in order.tolist())
    return graph
