"""Users' own stages, as small files, and the small runs that have them."""

from __future__ import annotations

SMALL = {
    "scenario.algorithm": "dfedavg",
    "scenario.peers": 4,
    "scenario.strict": True,
    "topology.kind": "full",
    "data.train_max": 80,
    "data.test_max": 40,
    "model.name": "logistic",
    "stop.rounds": 4,
}
KEYS = {
    "Merge": "merge.kind",
    "Outgoing": "outgoing.kind",
    "LocalUpdate": "local.optimizer.kind",
    "Attack": "attack.kind",
}
HEADER = "import torch\nimport gossip\nfrom scenarios.attacks.base import Attack\ncalls = []\n"
METHODS = {
    "Merge": "class Own(gossip.Merge):\n    def __call__(self, own, own_weight, received, *, context):\n",
    "Outgoing": "class Own(gossip.Outgoing):\n    def send(self, models, state, draws):\n",
    "LocalUpdate": "class Own(gossip.LocalUpdate):\n    def step(self, gradient, models, state, lr):\n",
    "Attack": "class Own(Attack):\n    def craft(self, known):\n",
}
