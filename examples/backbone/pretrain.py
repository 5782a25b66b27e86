"""Train a network on the digits 0 to 4, which no site has, and keep its backbone: data/backbone.safetensors."""

from __future__ import annotations

from pathlib import Path

import torch
from model import make
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

BACKBONE = Path("data/backbone.safetensors")
EPOCHS = 10
STEP = 0.1


def main() -> None:
    """Train with plain SGD, and write the tensors of the backbone by their names in the network."""
    images, labels = (torch.from_numpy(array) for array in load_digits(n_class=5, return_X_y=True))
    x = images.float().reshape(-1, 1, 8, 8) / 16  # (901, 1, 8, 8)
    torch.set_num_threads(1)  # more would only wait for each other at so small a network
    torch.manual_seed(0)
    network = make((1, 8, 8), 5)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(16):
            loss = cross_entropy(network(x[batch]), labels[batch])
            gradients = torch.autograd.grad(loss, list(network.parameters()))
            with torch.no_grad():
                for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                    parameter -= STEP * gradient
    BACKBONE.parent.mkdir(exist_ok=True)
    kept = {name: value for name, value in network.state_dict().items() if name.startswith("backbone.")}
    save_file(kept, BACKBONE)
    print(f"{BACKBONE}: {', '.join(kept)}")


if __name__ == "__main__":
    main()
