"""Write the base that all sites have, data/base.safetensors: here random weights, in earnest a pre-trained model's."""

from __future__ import annotations

from pathlib import Path

import torch
from model import LENGTH, make
from safetensors.torch import save_file

BASE = Path("data/base.safetensors")

if __name__ == "__main__":
    torch.manual_seed(0)
    network = make((LENGTH,), 2)
    BASE.parent.mkdir(exist_ok=True)
    save_file(
        {name: value.bfloat16() for name, value in network.state_dict().items() if value.is_floating_point()},
        BASE,
    )
    print(f"{BASE}: {sum(value.numel() for value in network.parameters())} numbers, in bfloat16")
