"""How samples are divided among peers: no shard empty, and every sample in exactly one (in at most one, or in
several, where `cyclic` gives each peer a few, or `dirichlet` draws for each).

A partition is a pure function of (labels, number of peers, settings, generator), so every process that
computes it from the run's seed gets the same. Names follow the field's partitioners (iid, Dirichlet,
pathological, shard).
"""

from __future__ import annotations

import copy
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from gossip import plugins
from gossip.errors import SettingError
from gossip.learning.settings import (
    PARTITIONS,
    CyclicPartition,
    DirichletPartition,
    IidPartition,
    OwnPartition,
    PathologicalPartition,
    ShardsPartition,
)
from gossip.settings import Choice

Labels: TypeAlias = npt.NDArray[np.integer[Any]]
Indices: TypeAlias = npt.NDArray[np.int64]

REPEATS = 2
"""Times that a user's own function is asked again: few peers may be drawn twice alike."""


def divide(labels: Labels, peers: int, choice: Choice, generator: np.random.Generator) -> list[Indices]:
    """Divide as `choice` says, and look at what comes of it: it may be a user's own.

    Raises:
        SettingError: it cannot be done; or a user's own function fails, or returns anything but one array of whole
            numbers from 0 to len(labels) - 1 for each peer, none empty, or others when it is asked again.
    """
    partition = choice.load()
    if type(choice) in PARTITIONS.ours():
        divided: list[Indices] = partition(labels, peers, choice, generator)
        return divided
    found = _of_others(partition, labels, peers, choice, copy.deepcopy(generator))
    for _ in range(REPEATS):
        # As each peer of real processes asks for itself.
        again = _of_others(partition, labels, peers, choice, copy.deepcopy(generator))
        if not all(map(np.array_equal, found, again)):
            raise SettingError(
                f"partition '{choice.kind}' divides otherwise each time that it is asked, and shards of peers would "
                "overlap; draw from the generator that it is given alone"
            )
    return found


def _of_others(
    partition: Any, labels: Labels, peers: int, choice: Choice, generator: np.random.Generator
) -> list[Indices]:
    """Return what a user's own function divides, once it has been looked at."""
    try:
        found = [np.asarray(part) for part in partition(labels.copy(), peers, choice, generator)]
    except SettingError:
        raise
    except (Exception, SystemExit) as failure:
        raise SettingError(f"partition '{choice.kind}' fails: {plugins.one_line(failure)}") from failure
    if len(found) != peers:
        raise SettingError(
            f"partition '{choice.kind}' must return one array a peer: {len(found)} for {peers} peers"
        )
    for peer, part in enumerate(found):
        if part.ndim != 1 or not len(part) or part.dtype.kind not in "iu":
            raise SettingError(
                f"partition '{choice.kind}': peer {peer}'s must be whole numbers, one or more, not {part.dtype} of "
                f"shape {part.shape}"
            )
        if part.min() < 0 or part.max() >= len(labels):
            raise SettingError(
                f"partition '{choice.kind}': peer {peer}'s samples are {part.min()} to {part.max()}; valid: 0 to "
                f"{len(labels) - 1}"
            )
    return [part.astype(np.int64) for part in found]


def iid(labels: Labels, peers: int, settings: IidPartition, generator: np.random.Generator) -> list[Indices]:
    """Deal out the samples at random; shard sizes differ by at most one.

    Returns:
        One sorted index array per peer.

    Raises:
        SettingError: more peers than samples.
    """
    _enough(len(labels), peers, 1, "iid")
    return [np.sort(part) for part in np.array_split(generator.permutation(len(labels)), peers)]


def dirichlet(
    labels: Labels, peers: int, settings: DirichletPartition, generator: np.random.Generator
) -> list[Indices]:
    """Split each class over the peers in proportions drawn from Dirichlet(alpha · 1).

    A draw that leaves a peer with fewer than `min_samples` is repeated, at most `attempts_max` times: at small
    alpha and many peers such draws are all there are.

    Raises:
        SettingError: too many peers, or no draw was acceptable.
    """
    if settings.samples_per_peer is not None:
        return _drawn(labels, peers, settings.alpha, settings.samples_per_peer, generator)
    _enough(len(labels), peers, settings.min_samples, "dirichlet")
    classes, sizes = np.unique(labels, return_counts=True)
    for _ in range(settings.attempts_max):
        proportions = generator.dirichlet(
            np.full(peers, settings.alpha), size=len(classes)
        )  # (classes, peers)
        ends = np.rint(np.cumsum(proportions, axis=1) * sizes[:, None]).astype(np.int64)
        ends[:, -1] = sizes  # the sum of the proportions is one only up to rounding
        counts = np.diff(ends, axis=1, prepend=0)  # (classes, peers)
        if counts.sum(axis=0).min() >= settings.min_samples:
            break
    else:
        raise SettingError(
            f"partition dirichlet: {settings.attempts_max} draws with alpha = {settings.alpha:g} left some of "
            f"{peers} peers with fewer than {settings.min_samples} of {len(labels)} samples; "
            "raise alpha, or lower min_samples or the number of peers"
        )
    pieces: list[list[Indices]] = [[] for _ in range(peers)]
    for label, cuts in zip(classes, ends, strict=True):
        members = generator.permutation(np.flatnonzero(labels == label))
        for mine, part in zip(pieces, np.split(members, cuts[:-1]), strict=True):
            mine.append(part)
    return [np.sort(np.concatenate(mine)) for mine in pieces]


def _drawn(
    labels: Labels, peers: int, alpha: float, count: int, generator: np.random.Generator
) -> list[Indices]:
    """Draw each peer's samples with replacement: a class by the peer's own proportions, then one of its samples."""
    classes = np.unique(labels)
    members = [np.flatnonzero(labels == label) for label in classes]
    shards = []
    for _ in range(peers):
        counts = generator.multinomial(count, generator.dirichlet(np.full(len(classes), alpha)))
        drawn = [generator.choice(own, size=size) for own, size in zip(members, counts, strict=True)]
        shards.append(np.sort(np.concatenate(drawn)))
    return shards


def pathological(
    labels: Labels, peers: int, settings: PathologicalPartition, generator: np.random.Generator
) -> list[Indices]:
    """Give every peer samples of exactly `classes_per_peer` classes.

    Each peer in turn takes the classes that fewest peers hold yet, ties drawn; a class is split evenly among
    those that hold it.

    Raises:
        SettingError: fewer classes than `classes_per_peer`, too few peers to hold every class, or more peers
            for a class than it has samples.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    per_peer = settings.classes_per_peer
    if per_peer > len(classes):
        raise SettingError(
            f"partition pathological: classes_per_peer = {per_peer}, but the data has {len(classes)} classes"
        )
    if peers * per_peer < len(classes):
        raise SettingError(
            f"partition pathological: {peers} peers with {per_peer} classes each cannot hold all {len(classes)} "
            f"classes; classes_per_peer must be at least {-(-len(classes) // peers)}"
        )
    holders: list[list[int]] = [[] for _ in classes]
    held = np.zeros(len(classes), dtype=np.int64)
    for peer in range(peers):
        shuffled = generator.permutation(len(classes))
        for place in shuffled[np.argsort(held[shuffled], kind="stable")[:per_peer]]:
            holders[place].append(peer)
            held[place] += 1
    pieces: list[list[Indices]] = [[] for _ in range(peers)]
    for place, label in enumerate(classes):
        if held[place] > sizes[place]:
            raise SettingError(
                f"partition pathological: class {label} has {sizes[place]} samples for {held[place]} peers that "
                "would hold it; lower the number of peers or classes_per_peer"
            )
        members = generator.permutation(np.flatnonzero(labels == label))
        for peer, part in zip(holders[place], np.array_split(members, len(holders[place])), strict=True):
            pieces[peer].append(part)
    return [np.sort(np.concatenate(mine)) for mine in pieces]


def cyclic(
    labels: Labels, peers: int, settings: CyclicPartition, generator: np.random.Generator
) -> list[Indices]:
    """Give the peer at position i the classes i, i + 1, …, i + `classes_per_peer` - 1 modulo their number.

    With as many peers as classes (or a multiple of it) every class is at equally many peers. With
    `samples_per_class` what is left over belongs to nobody.

    Raises:
        SettingError: fewer classes than `classes_per_peer`, or a class with too few samples for its holders.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    count, per_peer, few = len(classes), settings.classes_per_peer, settings.samples_per_class
    if per_peer > count:
        raise SettingError(
            f"partition cyclic: classes_per_peer = {per_peer}, but the data has {count} classes"
        )
    pieces: list[list[Indices]] = [[] for _ in range(peers)]
    for place, label in enumerate(classes):
        holders = [peer for peer in range(peers) if (place - peer) % count < per_peer]
        needed = len(holders) * (few or 1)
        if settings.overlap:
            needed = few or 1
        if needed > sizes[place]:
            raise SettingError(
                f"partition cyclic: class {label} has {sizes[place]} training samples, and its {len(holders)} holders "
                f"need {needed}; lower samples_per_class or the number of peers"
                + ("" if settings.overlap else ", or set overlap = true")
            )
        members = np.flatnonzero(labels == label)
        shuffled = generator.permutation(members)
        for turn, peer in enumerate(holders):
            if few is None:
                mine = np.array_split(shuffled, len(holders))[turn]
            elif settings.overlap:
                mine = generator.permutation(members)[:few]
            else:
                mine = shuffled[turn * few : (turn + 1) * few]
            pieces[peer].append(mine)
    return [np.sort(np.concatenate(mine)) for mine in pieces]


def shards(
    labels: Labels, peers: int, settings: ShardsPartition, generator: np.random.Generator
) -> list[Indices]:
    """Sort the samples by label, cut them into equal shards, deal `shards_per_peer` of them to each peer.

    Raises:
        SettingError: fewer samples than shards.
    """
    per_peer = settings.shards_per_peer
    _enough(len(labels), peers, per_peer, "shards")
    shuffled = generator.permutation(len(labels))  # which samples of a class share a shard is drawn, too
    ordered = shuffled[np.argsort(labels[shuffled], kind="stable")]
    cut = np.array_split(ordered, peers * per_peer)
    dealt = generator.permutation(peers * per_peer).reshape(peers, per_peer)
    return [np.sort(np.concatenate([cut[shard] for shard in mine])) for mine in dealt]


def own(labels: Labels, peers: int, settings: OwnPartition, generator: np.random.Generator) -> list[Indices]:
    """Divide nothing: the data is this peer's own, all of it (where peers share one file, all hold all of it)."""
    return [np.arange(len(labels), dtype=np.int64) for _ in range(peers)]


def _enough(samples: int, peers: int, per_peer: int, kind: str) -> None:
    if samples < peers * per_peer:
        raise SettingError(
            f"partition {kind}: {samples} training samples are too few for {peers} peers with at least "
            f"{per_peer} each; at most {samples // per_peer} peers"
        )
