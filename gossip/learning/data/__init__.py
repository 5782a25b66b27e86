"""Samples: the embedded digits, a user's .npz file, or a user's function; checked before anything learns."""

from gossip.learning.data.arrays import KEYS as KEYS
from gossip.learning.data.dataset import Dataset as Dataset
from gossip.learning.data.dataset import Preparation as Preparation
from gossip.learning.data.dataset import load as load

__all__ = ["KEYS", "Dataset", "Preparation", "load"]
