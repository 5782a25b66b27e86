"""A finished model in other formats."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from gossip.errors import SettingError
from gossip.inference.loaded import LoadedModel
from gossip.learning import user_code


def export(model: LoadedModel, format: str, path: Path) -> None:
    """Write `model` to `path`.

    Args:
        model: it stays as it is.
        format: ``safetensors`` (the state dict), ``state-dict`` (the same as `torch.load` reads it, weights only),
            ``torchscript`` (a traced module, no Python needed), ``onnx``.
        path: replaced where it is there.

    Raises:
        SettingError: there is no such format, the network cannot be written so, or the path not at all.
    """
    if format not in FORMATS:
        raise SettingError(f"--format {format}: valid: {', '.join(FORMATS)}")
    try:
        FORMATS[format](model, path)
    except SettingError:
        raise
    except OSError as failure:
        raise SettingError(f"--out {path}: cannot be written: {failure.strerror or failure}") from None
    except Exception as failure:  # a network may do what the format does not know
        raise SettingError(
            f"--format {format}: this network cannot be written so: {user_code.one_line(failure)}"
        ) from failure


def example(model: LoadedModel) -> Tensor:
    """Return two samples of zeros, as the network takes them."""
    return torch.zeros(2, *model.input_shape, dtype=torch.int64 if model.whole_numbers else torch.float32)


def _safetensors(model: LoadedModel, path: Path) -> None:
    tensors = {name: tensor.contiguous().clone() for name, tensor in model.module.state_dict().items()}
    safetensors.torch.save_file(tensors, path)


def _state_dict(model: LoadedModel, path: Path) -> None:
    torch.save(model.module.state_dict(), path)


def _torchscript(model: LoadedModel, path: Path) -> None:
    with torch.no_grad(), warnings.catch_warnings():
        # torch would rather have torch.export, whose programs need torch's Python.
        warnings.simplefilter("ignore", DeprecationWarning)
        traced = torch.jit.trace(model.module, example(model), check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(traced, str(path))


def _onnx(model: LoadedModel, path: Path) -> None:
    try:
        # torch writes with both.
        importlib.import_module("onnx")
        importlib.import_module("onnxscript")
    except ImportError:
        raise SettingError(
            "--format onnx needs the packages onnx and onnxscript: pip install onnx onnxscript"
        ) from None
    program = torch.onnx.export(model.module, (example(model),), dynamo=True, verbose=False)
    assert program is not None
    program.save(str(path))


FORMATS: dict[str, Callable[[LoadedModel, Path], None]] = {
    "safetensors": _safetensors,
    "state-dict": _state_dict,
    "torchscript": _torchscript,
    "onnx": _onnx,
}
