"""A partition: each peer has `ratio` times fewer samples than the one before it."""

import numpy as np
from pydantic import Field

import gossip


class Ratio(gossip.Settings):
    """What a task file may say beside the kind."""

    ratio: float = Field(2.0, ge=1, description="1: all have equally many")


def geometric(labels, peers, settings, generator):
    """[data] partition = { kind = "python:own_partition.py:geometric", ratio = 1.5 }."""
    shares = settings.ratio ** -np.arange(peers)
    ends = np.rint(np.cumsum(shares / shares.sum()) * len(labels)).astype(int)
    return np.split(generator.permutation(len(labels)), ends[:-1])


geometric.Settings = Ratio
