"""What does not go together with `[privacy]`: whatever says something of the samples that its ledger does not count."""

from __future__ import annotations

from collections.abc import Iterator

from gossip.config.task import TaskSettings
from gossip.errors import SettingError
from gossip.merging.settings import MERGES, VarianceCorrectedSettings
from gossip.outgoing.settings import NoiseSettings, ZeroSumNoiseSettings
from gossip.wire.codecs.settings import TopChangeSettings
from topologies import Topology

BY_OWN_SAMPLES = ("bristle", "ubar")
"""Rules that judge received models by own samples: what is sent next then hangs on these."""


def check_privacy(task: TaskSettings, topology: Topology) -> None:
    """Raise `SettingError` where another section lets out what `[privacy]` is to keep in."""
    if isinstance(task.outgoing, NoiseSettings):
        _check_noise(task, task.outgoing)
    if isinstance(task.outgoing, ZeroSumNoiseSettings):
        _check_zero_sum(task, topology)
    if task.privacy.nothing:
        return
    for refused in _refused(task):
        raise SettingError(f"{task.where('privacy')} kind = 'dp-sgd' does not go with {refused}")
    for sentence in _notes(task):
        task.note(sentence)


def _check_noise(task: TaskSettings, noise: NoiseSettings) -> None:
    """Say what noise on models is, and refuse it where it would be taken for something else."""
    if isinstance(task.merge, VarianceCorrectedSettings):
        raise SettingError(
            f"{task.where('outgoing')} kind = 'noise' adds a variance of its own to every tensor, which [merge] kind = "
            "'variance-corrected' would take for the models'; valid: another rule, or no [outgoing]"
        )
    if task.privacy.nothing:
        task.note(
            f"[outgoing] kind = 'noise' with std = {noise.std:g} is no differential privacy: nothing bounds what a "
            "model says of a sample; [privacy] does"
        )


def _check_zero_sum(task: TaskSettings, topology: Topology) -> None:
    """Raise `SettingError` where noise that neighbours' weights are to cancel would not cancel; say what it is."""
    for wrong, valid in _uncancelled(task, topology):
        raise SettingError(
            f"{task.where('outgoing')} kind = 'zero-sum-noise' cancels by the weights that all neighbours have for a "
            f"model, and {wrong}; valid: {valid}"
        )
    task.note(
        "[outgoing] kind = 'zero-sum-noise' is for one neighbour by itself: those that put together what they get see "
        "through it, and a message that is lost or late leaves the mean of all models off by its noise"
    )


def _uncancelled(task: TaskSettings, topology: Topology) -> Iterator[tuple[str, str]]:
    """Yield what does not fit, and what would."""
    if task.protocol.kind != "rounds":
        yield f"[protocol] kind = '{task.protocol.kind}' has none that stay", "kind = 'rounds'"
    elif getattr(task.protocol, "weighing", "row") != "row":
        yield "[protocol] weighing = 'participation' changes them", "weighing = 'row'"
    if task.merge.kind != "average":
        yield f"[merge] kind = '{task.merge.kind}' does not go by them", "kind = 'average'"
    if task.codec.kind != "float32":
        yield f"[codec] kind = '{task.codec.kind}' rounds each message otherwise", "kind = 'float32'"
    if topology.time_varying or topology.directed:
        yield (
            f"[topology] kind = '{topology.kind}' has other neighbours in each round",
            "a graph that stays, as ring",
        )
    elif not topology.kept_mean:
        yield (
            "[topology] weights = 'uniform' are no longer one's own there",
            "weights = 'metropolis-hastings'",
        )
    elif min(len(topology.row(place)) for place in range(topology.peers)) < 2:
        yield (
            f"[topology] kind = '{topology.kind}' has a peer with one neighbour",
            "two neighbours at least for each",
        )
    if topology.final is not None:
        yield "[final] steps go by others", "no [final]"


def _refused(task: TaskSettings) -> Iterator[str]:
    local, data, adapter = task.local, task.data, task.model.adapter
    if adapter is not None and adapter.train == "AB":
        yield (
            "train = 'AB' of [model.adapter]: noise on each factor is multiplied by the other one, and is therefore "
            "not the noise of their product; valid: train = 'R' or 'B'"
        )
    if local.sam_rho:
        yield (
            f"sam_rho = {local.sam_rho:g} of [local], which takes two gradients a step where the ledger counts one; "
            'valid: sam_rho = 0, as algorithm = "dfedavg" has it'
        )
    if local.optimizer.kind == "spsa":
        yield (
            "optimizer.kind = 'spsa' of [local], which goes by losses, and noise is on gradients; valid: sgd, adamw, "
            "quasi-global, fedprox, fedspeed"
        )
    if local.consolidate == "familiar":
        yield (
            'consolidate = "familiar" of [local], by which a model shows of what classes its peer has samples; valid: '
            'consolidate = "all"'
        )
    if local.precision != "float32":
        yield (
            f"precision = '{local.precision}' of [local], in which a sample's gradient cannot be shortened to a length "
            'that is sure; valid: precision = "float32"'
        )
    if local.compile:
        yield "compile = true of [local], since samples go through the network one by one; valid: compile = false"
    if task.merge.kind.rpartition("+")[2] in BY_OWN_SAMPLES:
        yield (
            f"kind = '{task.merge.kind}' of [merge], which judges models by own samples, so that what is sent "
            "next says something of them; valid: rules that look at models only, such as average or nnm+trimmed-mean"
        )
    if isinstance(task.codec, TopChangeSettings):
        yield (
            "kind = 'top-change' of [codec], which would choose the numbers with the most noise; valid: int8, "
            "float16, or [protocol] parts"
        )
    if task.stop.early:
        yield (
            "patience and target of [stop], by which others learn how a peer's model does on its samples; valid: "
            "[stop] rounds"
        )
    if data.standardise == "own":
        yield (
            'standardise = "own" of [data], by which each sample changes what all others are to the network; valid: '
            'standardise = "none", or "given" by numbers that anybody may know'
        )
    if data.missing == "mean" and data.standardise != "given":
        yield (
            'missing = "mean" of [data], by which each sample changes what others are to the network; valid: '
            'missing = "refuse" or "drop"'
        )


def _notes(task: TaskSettings) -> Iterator[str]:
    if type(task.merge) not in MERGES.ours():
        yield (
            f"[merge] kind = '{task.merge.kind}' may look at own samples; what it makes of them is not in the "
            "ledger of [privacy]"
        )
    if task.data.statistics:
        yield (
            "[privacy] counts what models say of samples; that [data] statistics were made of somebody's samples, as "
            "`gossip-node statistics` does, is not in its ledger"
        )
    if task.logger.kind != "none":
        yield (
            f"[logger] kind = '{task.logger.kind}' is given training losses, which no noise covers: under [privacy] "
            "let nobody read them who may not read the samples"
        )
