"""A small transformer for classification, made from its configuration: no download."""

from __future__ import annotations

import torch
from torch import nn

try:
    from transformers import BertConfig, BertForSequenceClassification
except ImportError:
    raise ImportError("this example needs transformers: pip install 'gossip-node[adapters]'") from None

WORDS, LENGTH = 64, 16
"""Size of the vocabulary, and of a sentence."""


class Classifier(nn.Module):
    """Token numbers (batch, LENGTH) become logits (batch, classes)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        config = BertConfig(
            vocab_size=WORDS,
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=128,
            max_position_embeddings=LENGTH,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            initializer_range=0.1,
            num_labels=classes,
        )
        self.model = BertForSequenceClassification(config)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, classes)."""
        return self.model(input_ids=tokens).logits


def make(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return a fresh network."""
    return Classifier(classes)
