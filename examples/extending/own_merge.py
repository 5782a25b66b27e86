"""A merge rule: own model and the coordinate-wise median of all, half and half (`share`)."""

import torch
from pydantic import Field

import gossip


class HalfMedian(gossip.Merge):
    """[merge] kind = "python:own_merge.py:HalfMedian"."""

    class Settings(gossip.Settings):
        """What a task file may say beside the kind."""

        share: float = Field(0.5, ge=0, le=1, description="of the median")

    def __init__(self, settings):
        self.share = settings.share

    def __call__(self, own, own_weight, received, *, context):
        if own_weight == 0:  # the own model is none of this round
            return (
                torch.stack([each.model for each in received]).median(0).values if received else own.clone()
            )
        median = torch.stack([own, *(each.model for each in received)]).median(0).values
        return torch.lerp(own, median, self.share)
