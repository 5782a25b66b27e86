"""The network: a transformer that tells at each place what comes next, from what stands before."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention


class Block(nn.Module):
    """Attention to what stands before, and a layer for each place by itself."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.ask, self.gather = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.think = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (batch, places, width)."""
        asked = self.ask(self.before(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = scaled_dot_product_attention(*asked, is_causal=True)  # (batch, heads, places, width / heads)
        x = x + self.gather(seen.transpose(1, 2).flatten(2))
        return x + self.think(self.between(x))


class Transformer(nn.Module):
    """Tokens (batch, places) become logits (batch, places, tokens)."""

    def __init__(self, places: int, tokens: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(tokens, width), nn.Embedding(places, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.tell = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, tokens))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, places, tokens)."""
        return self.tell(self.blocks(self.token(x) + self.place.weight[: x.shape[1]]))


def make(
    input_shape: tuple[int, ...], tokens: int, width: int = 48, heads: int = 4, layers: int = 2
) -> nn.Module:
    """Return a fresh network; the last three may be given in task.toml as `[model] arguments`."""
    return Transformer(input_shape[0], tokens, width, heads, layers)
