"""What a peer's models say of any one of its samples, bounded: clipped gradients, secret noise, and a ledger of ε."""
