"""A margin instead of a softmax: each sample's class is to lead all others (Crammer and Singer, JMLR 2001)."""

from pydantic import Field
from torch.nn.functional import multi_margin_loss

import gossip
from gossip.learning.objectives.classification import Classification


class Margin(Classification):
    """Targets, accuracy and all other metrics are those of classification."""

    class Settings(gossip.Settings):
        margin: float = Field(1.0, gt=0, description="by which the right logit is to lead")

    def __init__(self, settings):
        super().__init__()
        self.settings = settings
        self.plain = False  # no softmax cross-entropy, which the virtual engine has by hand

    def loss(self, outputs, targets):
        return multi_margin_loss(outputs, targets, margin=self.settings.margin)
