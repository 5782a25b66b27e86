"""What the field calls our settings elsewhere: papers' symbols, other frameworks' names, and usual abbreviations.

Looked up only where a name is unknown, to say which one was meant. Case, hyphens and underscores do not count.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

WORDS: Mapping[str, str] = {
    # [local]
    "lr": "learning_rate eta step_size lrate base_lr initial_lr",
    "lr_decay": "decay_rate learning_rate_decay lr_gamma gamma exponential_decay",
    "lr_warmup": "warmup warmup_rounds warmup_steps",
    "schedule": "scheduler lr_schedule lr_scheduler annealing",
    "optimizer": "optim optimiser opt",
    "epochs": "epoch num_epochs n_epochs local_epochs passes",
    "steps": "num_steps local_steps iterations iters num_iterations local_iterations K tau H",
    "batch_size": "batch minibatch mini_batch minibatch_size mini_batch_size train_batch_size bs B",
    "momentum": "heavy_ball polyak mu beta",
    "weight_decay": "wd l2 l2_reg l2_penalty decay regularization",
    "sam_rho": "rho radius sam_radius perturbation sharpness",
    "clip_norm": "clip clipping grad_clip gradient_clipping clip_grad_norm max_grad_norm max_norm clip_grad",
    # [privacy]
    "privacy": "dp differential_privacy dp_sgd",
    "noise": "noise_multiplier sigma noise_scale",
    "epsilon_max": "epsilon target_epsilon max_epsilon eps privacy_budget budget",
    # [model], [data]
    "name": "model model_name arch architecture net network backbone",
    "hidden": "hidden_sizes hidden_size hidden_dim hidden_dims hidden_layers hidden_units layers widths units",
    "source": "dataset data path file filename loader",
    "classes": "num_classes n_classes nb_classes number_of_classes labels",
    "partition": "split distribution sharding non_iid heterogeneity",
    "alpha": "dirichlet_alpha concentration beta",
    "classes_per_peer": "classes_per_client classes_per_node labels_per_client",
    "shards_per_peer": "shards_per_client shards_per_node num_shards",
    "train_max": "max_train max_samples num_samples subset",
    "test_max": "max_test",
    "test_from_train": "validation_split val_split test_split test_size holdout",
    "own_test": "local_test personal_test own_test_fraction local_test_fraction",
    # [protocol], [merge], [topology]
    "gossip_steps": "Q gossip_rounds mixing_steps consensus_steps num_gossip_steps gossips",
    "sample_size": "sample s clients_per_round participants_per_round num_sampled",
    "aggregators": "a num_aggregators",
    "period_s": "period delta interval cycle",
    "fanout": "push_to num_targets",
    "f": "byzantine num_byzantine n_byzantine num_attackers liars faulty",
    "degree": "k neighbours neighbors num_neighbours num_neighbors",
    "probability": "p prob edge_probability",
    # [stop], [evaluate], [node]
    "rounds": "num_rounds n_rounds round max_rounds communication_rounds comm_rounds global_rounds T",
    "target_accuracy": "target accuracy goal",
    "every": "interval frequency freq eval_every eval_interval",
    "threads": "num_threads n_threads cpus",
    "seed": "random_seed rng_seed random_state manual_seed",
    "algorithm": "algo method strategy",
    # [scenario], [network], [attack]
    "peers": "num_peers n_peers nodes num_nodes n_nodes clients num_clients n_clients workers num_workers agents size",
    "latency_ms": "latency delay delay_ms ping",
    "jitter_ms": "jitter",
    "bandwidth_mbps": "bandwidth throughput rate",
    "loss": "packet_loss drop drop_rate drop_probability",
    "count": "attackers num_attackers n_attackers byzantine num_byzantine n_byzantine",
    # sections
    "local": "training train learning optimization client",
    "model": "network net arch architecture nn",
    "data": "dataset datasets",
    "merge": "aggregation aggregator aggregate averaging",
    "topology": "graph",
    "codec": "compression compressor quantization encoding",
    "evaluate": "evaluation eval test",
    "stop": "stopping termination",
    "attack": "adversary attacker byzantine",
    # kinds
    "full": "complete clique fully_connected all_to_all",
    "average": "mean averaging fedavg",
    "erdos-renyi": "random gnp",
    "small-world": "watts_strogatz",
}
"""Our name -> what others say, each a word. One word may mean several of ours; which, the place decides."""


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


_MEANT: dict[str, list[str]] = {}
for _ours, _others in WORDS.items():
    for _word in (_ours, *_others.split()):
        _MEANT.setdefault(_plain(_word), []).append(_ours)


def meant(name: str, valid: Collection[str]) -> Iterator[str]:
    """Yield those of the `valid` names that `name` is another word for, or another way to write."""
    plain = _plain(name)
    yield from (each for each in valid if _plain(each) == plain)
    yield from (each for each in _MEANT.get(plain, ()) if each in valid)
