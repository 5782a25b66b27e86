"""Kinds of networks on tokens."""

from __future__ import annotations

from own_modules_parts import Apply
from own_modules_samples import CLASSES, TOKENS, Kinds, Shape, tokens
from torch import nn

KINDS = Kinds()
on = KINDS.on


def _looked_up(table: nn.Module) -> nn.Module:
    return Apply(lambda self, x: self.out(self.table(x).mean(1)), table=table, out=nn.Linear(8, CLASSES))


@on(tokens)
def embedding(shape: Shape, classes: int) -> nn.Module:
    return _looked_up(nn.Embedding(TOKENS, 8))


@on(tokens)
def embedding_with_padding(shape: Shape, classes: int) -> nn.Module:
    return _looked_up(nn.Embedding(TOKENS, 8, padding_idx=0))


@on(tokens)
def embedding_sparse(shape: Shape, classes: int) -> nn.Module:
    return _looked_up(nn.Embedding(TOKENS, 8, sparse=True))


@on(tokens)
def embedding_by_frequency(shape: Shape, classes: int) -> nn.Module:
    return _looked_up(nn.Embedding(TOKENS, 8, scale_grad_by_freq=True))


@on(tokens)
def embedding_of_bounded_norm(shape: Shape, classes: int) -> nn.Module:
    return _looked_up(nn.Embedding(TOKENS, 8, max_norm=1.0))


@on(tokens)
def embedding_bag(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out(self.table(x)), table=nn.EmbeddingBag(TOKENS, 8), out=nn.Linear(8, classes)
    )


@on(tokens)
def tied_to_the_embedding(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: (self.table(x).mean(1) @ self.table.weight.T)[:, :classes],
        table=nn.Embedding(TOKENS, 8),
    )


@on(tokens)
def tokens_as_numbers(shape: Shape, classes: int) -> nn.Module:
    return Apply(lambda self, x: self.out(x), out=nn.Linear(7, classes))
