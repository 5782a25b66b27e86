"""Noise that is another for each neighbour, and that their weights cancel (Zip-DL, Biswas et al., arXiv 2403.11795).

    what neighbour j is sent = x + z_j,    Σ_j W_ji z_j = 0        the own model stays x

With u_j ~ N(0, std² I) and ‖w‖² = Σ_j W_ji², z_j = c (u_j - W_ji Σ_k W_ki u_k / ‖w‖²): u without what lies along w. It
has a share 1 - W_ji²/‖w‖² of u's variance, and c makes the least of them std².

The mean of all models after a gossip step is the one without noise, so that, other than by independent noise, nothing
is lost of it; single models differ by noise, which further mixing shrinks. What it is worth: **one neighbour by
itself** sees x under noise. Neighbours that put together what they got know more of it, and all together know x. A
message that is lost or late leaves the mean off by its noise times its weight. There is no ε.

The noise is the operating system's, and in simulations, which compare runs, a secret that is made of the seed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gossip.draws import Draws
from gossip.outgoing.base import Outgoing
from gossip.privacy.entropy import OPERATING_SYSTEM, Entropy
from gossip.privacy.per_sample import NOISE_BLOCK, noised
from gossip.stages import State


class ZeroSum(Outgoing):
    """The model with noise that is another for each neighbour."""

    to_each = True

    def send(self, models: Tensor, state: State, draws: Sequence[Draws]) -> tuple[Tensor, State]:
        """Return the models with independent noise, for whoever is no neighbour."""
        return noised(models, self.settings.std, [OPERATING_SYSTEM] * len(models)).to(models.device), state

    def apart(self, length: int, weights: Sequence[float], entropy: Entropy) -> Tensor:
        """Return z (d, length) for two or more neighbours that weigh what they get by `weights`."""
        w = torch.tensor(weights, dtype=torch.float64)[:, None]  # (d, 1)
        along = w / w.square().sum()
        factor = self.settings.std / float((1 - w.square().max() / w.square().sum()).sqrt())
        z = torch.empty(len(weights), length)
        for start in range(0, length, NOISE_BLOCK):
            block = z[:, start : start + NOISE_BLOCK]
            u = torch.from_numpy(entropy.normals(block.numel())).view_as(block)
            block.copy_(factor * (u - along * (w * u).sum(0)))
        return z
