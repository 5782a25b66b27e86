"""What a task file may say in `[codec]`. Free of torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, SerializeAsAny

from gossip.settings import Choice, Seam


class Float32Settings(Choice):
    """The learned slots as they are: 4 bytes a parameter, no copy."""

    implementation = "gossip.wire.codecs.float32:Float32"
    kind: str = "float32"


class Float16Settings(Choice):
    """2 bytes a parameter, 11 significant bits, up to 65 504: for weights of order one."""

    implementation = "gossip.wire.codecs.halves:Float16"
    kind: str = "float16"


class BFloat16Settings(Choice):
    """2 bytes a parameter, 8 significant bits, float32's range."""

    implementation = "gossip.wire.codecs.halves:BFloat16"
    kind: str = "bfloat16"


CODECS = Seam(
    "codec",
    Float32Settings,
    Float16Settings,
    BFloat16Settings,
    group="gossip.codecs",
    base="gossip.wire.codecs.base:Codec",
)
Codec = Annotated[SerializeAsAny[Choice], BeforeValidator(CODECS.validate)]
