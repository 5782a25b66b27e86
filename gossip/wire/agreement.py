"""What two peers must share before they may learn together, and what every received document is held against."""

from __future__ import annotations

from dataclasses import dataclass, field

from gossip.errors import PeerError
from gossip.wire.documents import Document
from gossip.wire.messages import Hello
from gossip.wire.tensors import EXACT, PartSpecs, TensorSpec, admitted, exact_specs


@dataclass(frozen=True, slots=True)
class Agreement:
    """What this peer holds the run to be."""

    run_id: str
    sections: tuple[tuple[str, str], ...]
    """Section of the task, and the digest of its settings."""
    space_id: str
    """Names the model's layout and roles, its frozen content and the task."""
    classes: int | None = None
    """Models come with the classes that their sender has samples of, from 0 to this number; None: with none."""

    def check_hello(self, document: Document, hello: Hello) -> None:
        """Raise `PeerError` with the sections that differ, if the other side means another run or another model."""
        own, theirs = dict(self.sections), dict(hello.agreement)
        differing = sorted(name for name in own.keys() | theirs.keys() if own.get(name) != theirs.get(name))
        shown = ", ".join(f"[{ascii(name)[1:-1][:40]}]" for name in differing[:8])
        if differing:
            raise PeerError("run", f"is in another run: its settings differ in {shown}")
        if document.envelope.run_id != self.run_id:
            raise PeerError(
                "run", "is in another run, though its settings are the same (another seed or run name?)"
            )
        if document.envelope.space_id != self.space_id:
            raise PeerError("space", "has another model or task: the layouts of the parameters differ")


@dataclass(slots=True)
class Expectation:
    """Holds one connection's documents against the agreement; `accept` is what a `FrameReader` calls."""

    agreement: Agreement
    codec: str
    specs: tuple[TensorSpec, ...]
    sender: str | None = None
    """None until the hello says, where no certificate said it before."""
    greeted: bool = False
    """Whether the hello has come; until then only a hello or a goodbye may."""
    part_specs: PartSpecs | None = None
    """Of messages that bring a part of a model; None: there are none."""
    learned: int | None = None
    """How many numbers the run's model has; None: nobody sends it in another codec."""
    anew: tuple[TensorSpec, ...] = ()
    """Under the codec, too: of a message by which a link begins anew; (): none does."""
    _seq: int = field(default=-1)

    def accept(self, document: Document) -> None:
        """Raise `PeerError` for a document that does not belong here."""
        envelope = document.envelope
        if self.sender is not None and envelope.sender != self.sender:
            raise PeerError("sender", "a message that names another sender")
        if document.seq <= self._seq:
            raise PeerError("replay", f"a message numbered {document.seq} after one numbered {self._seq}")
        self._seq = document.seq
        if not self.greeted:
            if document.kind not in ("hello", "goodbye"):
                raise PeerError("garbage", f"a '{document.kind}' message before the hello")
            return
        if document.kind == "hello":
            raise PeerError("garbage", "a second hello")
        if envelope.run_id != self.agreement.run_id:
            raise PeerError("run", "a message of another run")
        if envelope.space_id != self.agreement.space_id:
            raise PeerError("space", "a message about another model or task")
        if document.specs:
            self._check_codec(document)
            anew = document.specs == self.anew and document.codec == self.codec
            if not anew and not admitted(document.specs, self._specs_of(document)):
                raise PeerError("layout", "a model whose tensors are not of the agreed shapes and types")
            self._check_classes(document.classes)

    def _check_codec(self, document: Document) -> None:
        # As it is, a model may always come: it is more than was asked for. Who must send it so, may not send less.
        exact = self.learned is not None and document.codec == EXACT
        if exact or (document.codec == self.codec and not document.message().whole):
            return
        wanted = EXACT if document.message().whole else self.codec
        raise PeerError("layout", f"a model in another codec than '{wanted}'")

    def _specs_of(self, document: Document) -> tuple[TensorSpec, ...]:
        piece = document.message().piece
        try:
            if self.learned is not None and document.codec == EXACT:
                return exact_specs(self.learned, piece)
            if piece is None:
                return self.specs
            return self.part_specs(piece) if self.part_specs is not None else ()
        except ValueError:
            raise PeerError("layout", "a part of a model that there is not") from None

    def _check_classes(self, declared: tuple[int, ...] | None) -> None:
        classes = self.agreement.classes
        if (declared is None) != (classes is None):
            raise PeerError("layout", f"a model {'without' if declared is None else 'with'} declared classes")
        if declared and classes is not None and declared[-1] >= classes:
            raise PeerError("layout", f"a model of a class that the task's {classes} do not have")
