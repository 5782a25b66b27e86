"""What a task file may say in `[codec]`. Free of torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, SerializeAsAny

from gossip.settings import Choice, Seam


class Float32Settings(Choice):
    """The learned slots as they are: 4 bytes a parameter, no copy."""

    implementation = "gossip.wire.codecs:Float32"
    kind: str = "float32"


CODECS = Seam("codec", Float32Settings)
Codec = Annotated[SerializeAsAny[Choice], BeforeValidator(CODECS.validate)]
