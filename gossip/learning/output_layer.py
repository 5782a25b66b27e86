"""A network of which only the output layer is learned: then every learned number belongs to one class."""

from __future__ import annotations

import torch
from torch import Tensor

from gossip.errors import SettingError
from gossip.parameters import ParameterSpace, Role


class OutputLayer:
    """The learned vector [L] as a matrix with one row per class.

    The papers write the layer as features × classes and speak of a class' column; PyTorch stores it the other way.

    Args:
        space: of a network all of whose trained tensors have one row per class.

    Raises:
        SettingError: the network learns more than that.
    """

    def __init__(self, space: ParameterSpace) -> None:
        slots = space.slots_of(Role.LEARNED, Role.PRIVATE)
        shapes = {slot.shape[:1] for slot in slots}
        if len(shapes) != 1 or () in shapes or space.trained_size != space.learned_size:
            raise SettingError(
                "the network learns more than an output layer, and what it learns belongs to no single class; valid: "
                '[model] name = "linear" or "logistic", best behind an extractor'
            )
        (self.classes,) = shapes.pop()
        self.width = space.learned_size // self.classes
        """How many numbers belong to one class: the features, and a bias where there is one."""
        self.class_of = torch.cat(
            [torch.arange(self.classes).repeat_interleave(slot.size // self.classes) for slot in slots]
        )  # (L,)
        self._order = None if len(slots) == 1 else torch.argsort(self.class_of, stable=True)

    def rows(self, learned: Tensor) -> Tensor:
        """Return `learned` (…, L) as rows (…, classes, width): a view where the layer is one tensor."""
        if self._order is not None:
            learned = learned.index_select(-1, self._order.to(learned.device))
        return learned.view(*learned.shape[:-1], self.classes, self.width)

    def vector(self, rows: Tensor) -> Tensor:
        """Return `rows` (…, classes, width) as the learned vector (…, L)."""
        flat = rows.flatten(-2)
        if self._order is None:
            return flat
        learned = torch.empty_like(flat)
        return learned.index_copy_(-1, self._order.to(flat.device), flat)

    def spread(self, of_classes: Tensor) -> Tensor:
        """Return one value per class (…, classes) for each learned number (…, L)."""
        return of_classes.index_select(-1, self.class_of.to(of_classes.device))

    def familiar(self, y: Tensor) -> Tensor:
        """Return which classes have samples, (classes,) bool, for labels `y` (n,)."""
        present = torch.zeros(self.classes, dtype=torch.bool, device=y.device)
        present[y] = True
        return present
