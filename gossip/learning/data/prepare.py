"""New samples, prepared as those were that a model was trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, from_numpy

from gossip.learning.data import arrays, images, tables
from gossip.learning.data.preparation import Preparation


def prepare(raw: Any, preparation: Preparation, *, source: str = "new samples") -> Tensor:
    """Return new samples (n, *input_shape) as the network was given the training samples.

    Args:
        raw: what the model was trained on. Of a table: a file's path, an arrow table, or column -> values. Of images:
            their files' paths, or the bytes of each. Else an array (n, …).
        preparation: what was done to the training samples.
        source: where the new ones come from, for sentences.

    Raises:
        DataError: they are not of the same kind; one sentence.
    """
    if preparation.columns:
        array = tables.prepare(raw, preparation, source=source)
    elif preparation.images is not None:
        array = images.prepare(raw, preparation)
    else:
        array = np.asarray(raw)
    x = arrays.samples(array, source, "x", scaling="unit" if preparation.divided_by != 1 else "none")
    if preparation.channel_axis and x.ndim == 3:
        x = x[:, None]
    return from_numpy(x)
