"""Quasi-global momentum as a user would write it (Lin et al., ICML 2021): momentum of what mixing made of a round."""

import torch

import gossip


class QuasiGlobal(gossip.LocalUpdate):
    """[local] optimizer = { kind = "python:own_update.py:QuasiGlobal" }, with [local] momentum."""

    def rows(self, space):
        size = space.trained_size
        return {
            "start": gossip.Rows(size),  # the model at the beginning of the last local update
            "slow": gossip.Rows(size),
            "lr_sum": gossip.Rows(1),  # 0: there was no update before
            "velocity": gossip.Rows(size, kept=False),
        }

    def begin(self, models, state, context):
        mu, lr_sum = self.local.momentum, state["lr_sum"]
        moved = (state["start"] - models) / lr_sum.clamp_min(1e-12)
        slow = torch.where(lr_sum > 0, mu * state["slow"] + (1 - mu) * moved, state["slow"])
        return {**state, "start": models.clone(), "slow": slow, "velocity": slow}

    def step(self, gradient, models, state, lr):
        velocity = self.local.momentum * state["velocity"] + gradient(models)
        return models - lr * velocity, {**state, "velocity": velocity}

    def end(self, models, state, context, steps):
        return models, {**state, "lr_sum": steps * context.lr}
