"""An attack: what the peer has learnt this round, undone and reversed, `scale` times."""

from pydantic import Field

import gossip
from scenarios.attacks.base import Attack


class ReversedUpdate(Attack):
    """[attack] kind = "python:own_attack.py:ReversedUpdate", with count, fraction or peers as for ours."""

    class Settings(gossip.Settings):
        """What a scenario may say beside the kind and what all attacks may be told."""

        scale: float = Field(1.0, gt=0, description="of the update, backwards")

    def craft(self, known):
        start = known.own if known.base is None else known.base  # what it trained its own model from
        return start - self.settings.scale * (known.own - start)
