"""A finished model in other formats."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from gossip.errors import SettingError
from gossip.inference import peft_files
from gossip.inference.loaded import LoadedModel
from gossip.learning import user_code

INPUT, OUTPUT = "samples", "outputs"
"""Of an ONNX graph: prepared samples (n, …), and what the network makes of them (n, …), for classes their logits."""

ONE_FILE_BYTES_MAX = 2**31 - 2**24
"""A protobuf has less than 2 GiB; larger weights lie in a file beside it."""


def export(model: LoadedModel, format: str, path: Path) -> None:
    """Write `model` to `path`.

    Args:
        model: it stays as it is.
        format: ``safetensors`` (the state dict), ``state-dict`` (the same as `torch.load` reads it, weights only),
            ``torchscript`` (a traced module, no Python needed), ``onnx`` (a graph with the weights, for onnxruntime and
            the like), ``peft`` (a folder with the adapters alone, as `peft.PeftModel` loads them).
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


def _peft(model: LoadedModel, path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise SettingError(f"--out {path}: PEFT's format is a folder, and that is a file")
    peft_files.write(model.module, path, base=model.settings.start)


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
            "--format onnx needs the packages onnx and onnxscript: pip install onnx onnxscript, or gossip-node[onnx]"
        ) from None
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            model.module,
            (example(model),),
            dynamo=True,
            verbose=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        )
    assert program is not None
    program.model.metadata_props.update(_told(model))
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.module.state_dict().values())
    program.save(str(path), external_data=size > ONE_FILE_BYTES_MAX)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the user what torch and onnxscript say to their authors: what matters of it is raised."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    except Exception as failure:
        # torch tells what it will try next, and raises it from why it could not.
        raise (failure.__cause__ or failure) from None
    finally:
        logging.disable(before)


def _told(model: LoadedModel) -> dict[str, str]:
    """Return what an ONNX file says of itself beside the graph: what is done to samples before, and what comes out."""
    return {
        "gossip.preparation": json.dumps(model.preparation.as_dict()),
        "gossip.classes": json.dumps(list(model.class_names)),
        "gossip.objective": json.dumps(model.description["objective"]),
        "gossip.provenance": json.dumps(dict(model.provenance), default=str),
    }


FORMATS: dict[str, Callable[[LoadedModel, Path], None]] = {
    "safetensors": _safetensors,
    "state-dict": _state_dict,
    "torchscript": _torchscript,
    "onnx": _onnx,
    "peft": _peft,
}
