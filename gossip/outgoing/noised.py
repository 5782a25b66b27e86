"""Noise on the whole model, once per message: a nuisance to those who look into it, and no differential privacy.

    what is sent = x + N(0, std² I)        the own model stays x

Nothing bounds how much a sample moves x, so there is no ε; and a model that is sent in every round, with other noise
each time, can be averaged over rounds. What it does: a single message tells less of single weights. What it costs:
every receiver gets the noise of all its neighbours, of variance std² Σ_j w_ij², in every step. Where a promise is
wanted, take `[privacy]`, whose noise is on gradients and is counted.

The noise is the operating system's (`gossip.privacy.entropy`), so that nobody who knows the run's seed can subtract it.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from gossip.draws import Draws
from gossip.outgoing.base import Outgoing
from gossip.privacy.entropy import OPERATING_SYSTEM
from gossip.privacy.per_sample import noised
from gossip.stages import State


class Noised(Outgoing):
    """The model with independent normal noise on every number."""

    def send(self, models: Tensor, state: State, draws: Sequence[Draws]) -> tuple[Tensor, State]:
        """Return the models with noise; `draws` are everybody's, and not asked."""
        return noised(models, self.settings.std, [OPERATING_SYSTEM] * len(models)).to(models.device), state
