"""A model that is decoded while it is coming, so that little is left to be done when its last bytes are there."""

from __future__ import annotations

import abc

import torch


class Decoding(abc.ABC):
    """One model under way. For one thread at a time; nobody has anything of it before `finish`.

    What `finish` returns, or raises, is what decoding the whole tensors does, wherever `advance` was called between.
    """

    @abc.abstractmethod
    def advance(self, missing: int) -> None:
        """Decode what can be: of the joined bytes of all tensors all have come but, at most, the last `missing`.

        Raises:
            PeerError: "garbage", for bytes that no encoder writes.
        """

    @abc.abstractmethod
    def finish(self) -> torch.Tensor:
        """Return the vector (float32, (elements,)); all has come. Called once, last.

        Raises:
            PeerError: "garbage".
        """
