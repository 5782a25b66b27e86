"""Samples: the embedded digits, tables, images, archives, or a user's function; checked before anything learns."""

from gossip.learning.data.arrays import KEYS as KEYS
from gossip.learning.data.dataset import Dataset as Dataset
from gossip.learning.data.dataset import load as load
from gossip.learning.data.preparation import Preparation as Preparation
from gossip.learning.data.prepare import prepare as prepare

__all__ = ["KEYS", "Dataset", "Preparation", "load", "prepare"]
