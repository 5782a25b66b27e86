"""What a task file may say in `[outgoing]`. Free of torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, SerializeAsAny

from gossip.settings import Choice, Seam


class NoOutgoingSettings(Choice):
    """Models are sent as they are."""

    implementation = "gossip.outgoing.base:AsItIs"
    kind: str = "none"


OUTGOINGS = Seam(
    "outgoing", NoOutgoingSettings, group="gossip.outgoing", base="gossip.outgoing.base:Outgoing"
)
Outgoing = Annotated[SerializeAsAny[Choice], BeforeValidator(OUTGOINGS.validate)]
