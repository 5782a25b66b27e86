"""FedAvg, the baseline with a server: MoDeST's samples, but the first peer by name averages every round."""

from __future__ import annotations

from typing import ClassVar

from gossip.protocols.modest.protocol import Modest


class FedAvg(Modest):
    """McMahan et al. 2017, with uniform weights. The server is a participant too when it is drawn."""

    scenarios_only: ClassVar[bool] = True
    server: ClassVar[int | None] = 0
