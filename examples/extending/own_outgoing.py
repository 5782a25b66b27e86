"""What is sent: the model, shortened to a norm and with noise from the operating system."""

import os

import torch
from pydantic import Field

import gossip


class ClipAndNoise(gossip.Outgoing):
    """[outgoing] kind = "python:own_outgoing.py:ClipAndNoise"."""

    class Settings(gossip.Settings):
        """What a task file may say beside the kind."""

        norm: float = Field(20.0, gt=0, description="largest L2 norm that is sent")
        std: float = Field(0.001, ge=0, description="standard deviation of the noise")

    def send(self, models, state, draws):
        norms = torch.linalg.vector_norm(models, dim=1, keepdim=True)
        generator = torch.Generator().manual_seed(int.from_bytes(os.urandom(8), "big") >> 1)
        noise = torch.randn(models.shape, generator=generator).to(models.device)
        return models * (self.settings.norm / norms.clamp_min(1e-12)).clamp(
            max=1
        ) + self.settings.std * noise, state
