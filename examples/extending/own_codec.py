"""A codec: int8 with one scale for the whole model, rounded at random so that nothing is lost on average."""

import numpy as np
import torch

import gossip
from gossip.wire.tensors import TensorSpec, from_torch, to_torch


class OneScaleInt8(gossip.Codec):
    """[codec] kind = "python:own_codec.py:OneScaleInt8"."""

    def specs(self, elements):
        return (TensorSpec("float32", (1,)), TensorSpec("int8", (elements,)))

    def encode(self, vector, draws):
        scale = (vector.abs().max() / 127).clamp_min(1e-30)
        uniform = torch.from_numpy(draws.words(len(vector)) * np.float32(2**-32))
        levels = torch.floor(vector / scale + uniform).clamp(-127, 127)
        return from_torch(scale.reshape(1)), from_torch(levels.to(torch.int8))

    def decode(self, tensors):
        scale, levels = map(to_torch, tensors)
        return levels.to(torch.float32) * scale
