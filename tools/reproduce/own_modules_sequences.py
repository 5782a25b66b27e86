"""Kinds of networks on sequences."""

from __future__ import annotations

import torch
from own_modules_parts import Apply
from own_modules_samples import CLASSES, Kinds, Shape, sequences
from torch import nn
from torch.nn import functional

KINDS = Kinds()
on = KINDS.on


def _recurrent(layer: nn.Module, width: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out(self.layer(x)[0][:, -1]), layer=layer, out=nn.Linear(width, CLASSES)
    )


@on(sequences)
def rnn(shape: Shape, classes: int) -> nn.Module:
    return _recurrent(nn.RNN(5, 8, batch_first=True), 8)


@on(sequences)
def lstm(shape: Shape, classes: int) -> nn.Module:
    return _recurrent(nn.LSTM(5, 8, batch_first=True), 8)


@on(sequences)
def gru_both_ways(shape: Shape, classes: int) -> nn.Module:
    return _recurrent(nn.GRU(5, 8, batch_first=True, bidirectional=True), 16)


@on(sequences)
def lstm_deep_with_dropout(shape: Shape, classes: int) -> nn.Module:
    return _recurrent(nn.LSTM(5, 8, num_layers=2, dropout=0.3, batch_first=True), 8)


@on(sequences)
def lstm_projected(shape: Shape, classes: int) -> nn.Module:
    return _recurrent(nn.LSTM(5, 8, proj_size=4, batch_first=True), 4)


@on(sequences)
def convolution_1d(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out(torch.relu(self.conv(x.mT)).amax(2)),
        conv=nn.Conv1d(5, 8, 3),
        out=nn.Linear(8, classes),
    )


@on(sequences)
def attention(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out(self.attend(self.up(x), self.up(x), self.up(x))[0].mean(1)),
        up=nn.Linear(5, 8),
        attend=nn.MultiheadAttention(8, 2, batch_first=True),
        out=nn.Linear(8, classes),
    )


@on(sequences)
def transformer(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out(self.encode(self.up(x)).mean(1)),
        up=nn.Linear(5, 8),
        encode=nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True), 2, enable_nested_tensor=False
        ),
        out=nn.Linear(8, classes),
    )


@on(sequences)
def causal_attention(shape: Shape, classes: int) -> nn.Module:
    return Apply(
        lambda self, x: self.out(
            functional.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x), is_causal=True)[:, -1]
        ),
        q=nn.Linear(5, 8),
        k=nn.Linear(5, 8),
        v=nn.Linear(5, 8),
        out=nn.Linear(8, classes),
    )
