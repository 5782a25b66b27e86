"""Who are a peer's neighbours, round by round, and how much do they weigh."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from topologies.errors import TopologyError
from topologies.families import FAMILIES, KINDS, draw, family
from topologies.mixing import WEIGHTS, SparseRows, check_weights, sparse_rows
from topologies.request import Request

ROUNDS_KEPT = 8
"""Graphs of past rounds that are kept: peers are seldom further apart than that."""


class Topology:
    """The graphs and mixing matrices of one run, equal for all peers that are given the same arguments.

    Rows are answered from sparse arrays, drawn once for a static graph and once per round for a varying one.

    Args:
        kind: one of `topologies.KINDS`.
        peers: how many there are; a peer is its position in their sorted list.
        degree: see `topologies.build`.
        probability: see `topologies.build`.
        communities: see `topologies.build`.
        degree_between: see `topologies.build`.
        probability_between: see `topologies.build`.
        path: see `topologies.build`.
        weights: "metropolis-hastings" or "uniform".
        time_varying: draw a random kind anew in every round; some kinds always vary.
        seed: of the random kinds.
        names: the peers' names by position, for files that use them.

    Raises:
        TopologyError: with one sentence, already here and not in some later round.
    """

    def __init__(
        self,
        kind: str,
        peers: int,
        *,
        degree: int | None = None,
        probability: float | None = None,
        communities: int | None = None,
        degree_between: float | None = None,
        probability_between: float | None = None,
        path: str | None = None,
        weights: str = "metropolis-hastings",
        time_varying: bool = False,
        seed: int = 0,
        names: Sequence[str] | None = None,
    ) -> None:
        check_weights(weights)
        chosen = family(kind)
        if (chosen.weighted or chosen.directed) and weights != WEIGHTS[0]:
            own = "its edges have weights of their own" if chosen.weighted else "its rows are uniform anyway"
            raise TopologyError(f"'{kind}' takes no weights, {own}; leave weights out")
        if time_varying and not (chosen.random or chosen.every_round):
            varying = ", ".join(k for k in KINDS if FAMILIES[k].random or FAMILIES[k].every_round)
            raise TopologyError(
                f"'{kind}' cannot be time-varying, it is the same in every round; these can: {varying}"
            )
        self.kind = kind
        self.peers = peers
        self.weights = weights
        self.time_varying = time_varying or chosen.every_round
        self._request = Request(
            kind=kind,
            peers=peers,
            degree=degree,
            probability=probability,
            communities=communities,
            degree_between=degree_between,
            probability_between=probability_between,
            path=path,
            names=names,
            seed=seed,
        )
        self.directed = chosen.directed
        """Whether whom a peer sends to, and who sends to it, are others."""
        self.final: Topology | None = None
        """Of the steps that follow the last round, see `end_with`."""
        self.final_steps = 0
        self._kept: OrderedDict[int, SparseRows] = OrderedDict()
        self._heard_by: dict[int, list[tuple[int, ...]]] = {}
        self._ever: list[tuple[int, ...]] | None = None
        self.rows(0)

    def graph(self, round: int = 0) -> nx.Graph[int]:
        """Return the round's graph on nodes 0 … peers-1."""
        return draw(replace(self._request, round=round if self.time_varying else 0))

    @property
    def communities(self) -> tuple[range, ...] | None:
        """The positions of each community's peers, for a kind that has communities."""
        found = family(self.kind).communities
        return None if found is None else found(self._request)

    def row(self, i: int, round: int = 0) -> dict[int, float]:
        """Return W_ij of the round by neighbour j, without W_ii = 1 - Σ_j W_ij; O(degree)."""
        return self.rows(round).row(i)

    def audience(self, i: int, round: int = 0) -> tuple[int, ...]:
        """Return those that i sends to in the round, ascending: its neighbours, where the graph has no directions."""
        if not self.directed:
            return self.rows(round).of(i)
        heard_by = self._heard_by.get(round)
        if heard_by is None:
            rows = self.rows(round)
            found: list[list[int]] = [[] for _ in range(self.peers)]
            for receiver in range(self.peers):
                for sender in rows.of(receiver):
                    found[sender].append(receiver)
            if len(self._heard_by) >= ROUNDS_KEPT:
                del self._heard_by[next(iter(self._heard_by))]
            heard_by = self._heard_by[round] = [tuple(receivers) for receivers in found]
        return heard_by[i]

    @property
    def kept_mean(self) -> bool:
        """Whether every W is doubly stochastic, so that mixing keeps the mean of all models.

        Uniform weights do so where neighbours have equally many; of graphs that vary the first rounds are looked at.
        """
        if self.directed:
            return False
        if family(self.kind).weighted or self.weights == WEIGHTS[0]:
            return True
        rounds = min(self.period or ROUNDS_KEPT, ROUNDS_KEPT)
        for rows in map(self.rows, range(rounds)):
            sums = np.bincount(rows.neighbours, rows.weights, minlength=self.peers)
            lost = 1.0 - rows.degrees / (1.0 + rows.degrees)  # W_ii
            if not np.allclose(sums + lost, 1.0, rtol=0, atol=1e-9):
                return False
        return True

    def matrix(self, round: int = 0) -> NDArray[np.float64]:
        """Return the round's W, float64 [peers, peers]."""
        return self.rows(round).dense()

    def end_with(self, final: Topology, *, steps: int) -> None:
        """Let a run end with so many steps on another topology, whose rounds they are."""
        self.final, self.final_steps = final, steps

    def contacts(self, i: int) -> tuple[int, ...]:
        """Return the peers that can ever be neighbours of i, in final steps, too; ascending."""
        contacts = self._contacts(i)
        return contacts if self.final is None else tuple(sorted({*contacts, *self.final.contacts(i)}))

    def _contacts(self, i: int) -> tuple[int, ...]:
        if not self.time_varying:
            return self.rows(0).of(i)
        contacts = family(self.kind).contacts
        if contacts is not None:
            return contacts(self.peers, i)
        if self.period is not None:
            if self._ever is None:
                ever: list[set[int]] = [set() for _ in range(self.peers)]
                for round in range(self.period):
                    for place, beside in enumerate(ever):
                        beside.update(self.rows(round).of(place))
                self._ever = [tuple(sorted(beside)) for beside in ever]
            return self._ever[i]
        return tuple(j for j in range(self.peers) if j != i)

    def diameter(self) -> int:
        """Return the longest way, in edges between contacts; within its piece, where the graph falls into some."""
        beside = [self.contacts(i) for i in range(self.peers)]
        reach = [1 << i for i in range(self.peers)]  # bit j: i reaches j
        for hops in range(self.peers):
            wider = []
            for i, contacts in enumerate(beside):
                reached = reach[i]
                for j in contacts:
                    reached |= reach[j]
                wider.append(reached)
            if wider == reach:
                return hops
            reach = wider
        return self.peers

    @property
    def period(self) -> int | None:
        """After how many rounds the graphs repeat; None where they are drawn anew for ever."""
        if not self.time_varying:
            return 1
        period = family(self.kind).period
        return None if period is None else period(self._request)

    def digest(self, round: int = 0) -> str:
        """Return 16 hex digits of the round's matrix: peers compare theirs before they start."""
        rows = self.rows(round)
        state = hashlib.blake2b(self.weights.encode(), digest_size=8)
        state.update(rows.starts.astype("<i8").tobytes())
        state.update(rows.neighbours.astype("<i8").tobytes())
        if family(self.kind).weighted:
            state.update(rows.weights.astype("<f8").tobytes())
        return state.hexdigest()

    def rows(self, round: int = 0) -> SparseRows:
        """Return the round's W row by row, without its diagonal."""
        key = round if self.time_varying else 0
        rows = self._kept.get(key)
        if rows is None:
            graph = self.graph(key)
            rows = sparse_rows(graph, self.weights)
            graph.clear()  # it is a cycle, and a collector may not come by for the whole of a run
            self._kept[key] = rows
            if len(self._kept) > ROUNDS_KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return rows
