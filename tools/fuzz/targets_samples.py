"""Valid samples of what is fuzzed, to begin with: what our writers write."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from gossip.net.identity import Identity
from gossip.protocols.base import FinishedMessage, ModelMessage
from gossip.protocols.modest.messages import PingMessage, TrainMessage
from gossip.protocols.push.messages import PushMessage
from gossip.protocols.rounds.parts import PieceMessage
from gossip.protocols.rounds.stopping import WantsMessage
from gossip.protocols.tables import Shape, TableMessage
from gossip.storage.checkpoints import Belongs, Checkpoint, encode
from gossip.wire.codecs.base import part_specs
from gossip.wire.codecs.float32 import Float32
from gossip.wire.documents import DocumentWriter, Envelope
from gossip.wire.frames import writer
from gossip.wire.messages import Goodbye, Heartbeat, Hello, Welcome
from gossip.wire.tensors import TensorSpec

LEARNED = 24
"""Parameters of the model that frames are about."""
ENVELOPE = Envelope("run", "space", "alice")
SECTIONS = (("data", "1"), ("local", "2"))
SHAPE = Shape(run="run", classes=3, width=6)
"""Of tables beside the models."""


def _hello() -> Hello:
    return Hello(agreement=SECTIONS, instance="1", peers_digest="0")


def _model_messages() -> list[ModelMessage | TrainMessage | PushMessage | PieceMessage]:
    view = (("bob", 3, False, 7), ("carol", 0, True, -1))
    return [
        ModelMessage(round=3, step=1, model=None),
        TrainMessage(round=4, expected=3, view=view, version=9, model=None),
        PushMessage(round=5, age=7, model=None),
        PushMessage(round=5, age=7, part=1, parts=3, model=None),
        PieceMessage(round=2, step=1, part=1, parts=4, model=None),
    ]


def frame_seeds() -> list[bytes]:
    codec, seeds = Float32(), []
    for mode in range(8):
        made = writer(
            ENVELOPE,
            codec.name,
            codec.specs(LEARNED),
            part_specs=part_specs(codec, LEARNED),
            learned=LEARNED,
            declared=(1, 4) if mode & 4 else None,
            checksum=bool(mode & 1),
        )
        stream = [made.small(_hello(), 0), made.small(Welcome(), 1)]
        stream.append(made.small(Heartbeat(stamp_us=1, echo_us=0, held_us=0), 2))
        for number, message in enumerate(_model_messages(), start=3):
            piece = message.piece
            length = LEARNED if piece is None else len(range(*piece.bounds(LEARNED)))
            vector = torch.arange(length, dtype=torch.float32)
            stream += list(made.model(message, number, codec.encode(vector)))
        stream += [
            made.small(FinishedMessage(round=9), 90),
            made.small(Goodbye(reason="leaving", sentence=""), 91),
        ]
        seeds.append(bytes([mode]) + b"".join(bytes(part) for frame in stream for part in frame))
    return seeds


def small_seeds() -> list[bytes]:
    documents = DocumentWriter(ENVELOPE)
    messages = [_hello(), Welcome(), Heartbeat(stamp_us=1, echo_us=2, held_us=3), FinishedMessage(round=2)]
    messages += [PingMessage(nonce=1, round=2), Goodbye(reason="leaving", sentence="so long")]
    messages += [WantsMessage(wants=(("p", 3, "patience", b"x" * 64), ("q", 4, "target", b"y" * 64)))]
    sums = np.arange(SHAPE.width, dtype="<f4").tobytes()
    rows = (
        ("bob", 0, 1, 7, sums, b"x" * 64),
        ("alice", 1, 2, 1500, sums, b"y" * 64),
        ("bob", 2, 3, 0, b"", b""),
    )
    messages += [TableMessage(rows=rows)]
    return [documents.small(message, seq) for seq, message in enumerate(messages)]


def head_seeds() -> list[bytes]:
    specs = (TensorSpec("float32", (LEARNED,)),)
    seeds = []
    for declared in (None, (1, 4)):
        documents = DocumentWriter(ENVELOPE, declared)
        seeds += [
            documents.head(message, seq, "float32", specs) for seq, message in enumerate(_model_messages())
        ]
    return seeds


def peers_seeds() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        lines = [
            Identity.create(Path(folder) / name, name=name, advertise=f"10.0.0.{number}:7700").peers_line()
            for number, name in enumerate(("alice", "bob"))
        ]
    return ["\n".join(lines).encode(), b"# none\nalice [::1]:7700\n", ("\ufeff" + lines[0]).encode()]


def checkpoint_seeds() -> list[bytes]:
    made = Checkpoint(
        belongs=Belongs(peer="alice", space_id="space", seed=1),
        protocol="rounds",
        state={"round": 1},
        vector=np.arange(8, dtype=np.float32),
        counters={"sent": {"bytes": 1}},
    )
    return [encode(made)]


def identity_seeds() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        return [Identity.create(Path(folder), name="alice", advertise="10.0.0.1:7700").path.read_bytes()]


def metrics_seeds() -> list[bytes]:
    lines = [json.dumps({"peer": "alice", "round": round, "accuracy": 0.5}) for round in range(6)]
    return ["\n".join(lines).encode() + b"\n", b'{"round": 1}\nnull\n[]\n{"round": "x"}\n{"rou']


def task_seeds() -> list[bytes]:
    return [
        b'algorithm = "dfedsam-mgs"\n[model]\nname = "mlp"\nhidden = [32]\n[stop]\nrounds = 5\n',
        b'[protocol]\nkind = "modest"\nsample_size = 3\n[merge]\nkind = "multi-krum"\nf = 1\n',
        b'[data]\nsource = "digits"\npartition = { kind = "dirichlet", alpha = 0.3 }\n[topology]\nkind = "ring"\n',
    ]


def status_seeds() -> list[bytes]:
    return [json.dumps({"name": "alice", "round": 3, "neighbours": [{"name": "bob", "up": True}]}).encode()]
