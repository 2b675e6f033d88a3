"""Weights in the files that open_clip and OpenAI's clip save.

Nothing is run that a file may hold: ``.safetensors`` are numbers, torch files are read with ``weights_only``, and of a
TorchScript archive, which OpenAI's ``.pt`` are, only the numbers and their names are read, never its programs.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask", "num_batches_tracked")
"""Sizes, masks and counters that files hold among weights."""


class ScriptObject:
    """A module of a TorchScript archive, as the names and values of its attributes."""


def _plain(values: object, *_: object) -> object:
    """Stands for the functions that give a list in such an archive its type."""
    return values


STAND_INS: tuple[tuple[str, Callable[..., Any]], ...] = (("__torch__.", ScriptObject), ("torch.jit._pickle.", _plain))
"""How names in a TorchScript archive begin, and what is taken for what they name."""


def is_weight(name: str) -> bool:
    """Whether a number of this name is one that a model computes with."""
    return name.rpartition(".")[2] not in NOT_WEIGHTS


def is_script(path: Path) -> bool:
    """Whether a file is a TorchScript archive."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights in a file, float32, under the names that open_clip's ``CLIP`` has for them.

    A training's prefix ``module.`` and the prefix ``text.`` of ``CustomTextCLIP`` are taken off.

    Raises:
        ValueError: the file holds no dictionary of weights.
    """
    state: Any
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        state = load_file(path)
    elif is_script(path):
        state = dict(_tensors(_read_script(path)))
    else:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping) or not state or not all(isinstance(each, Tensor) for each in state.values()):
        raise ValueError("it holds no dictionary of weights")
    plain = {str(name).removeprefix("module.").removeprefix("text."): weight for name, weight in state.items()}
    return {
        name: weight.float() if weight.is_floating_point() else weight
        for name, weight in plain.items()
        if is_weight(name)
    }


def _read_script(path: Path) -> object:
    """The root module of a TorchScript archive, read as data: its classes are names here, with nothing behind them."""
    data = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(data, "w") as copy:
        for entry in archive.infolist():
            inside = entry.filename.partition("/")[2]
            if inside in ("data.pkl", "version", "byteorder") or inside.startswith("data/"):
                copy.writestr(entry.filename, archive.read(entry))
    data.seek(0)
    foreign = get_unsafe_globals_in_checkpoint(data)
    taken = {name: stand_in for name in foreign for begin, stand_in in STAND_INS if name.startswith(begin)}
    if strange := set(foreign) - set(taken):
        raise ValueError(f"it holds {min(strange)}, which is no module")
    data.seek(0)
    with safe_globals([(stand_in, name) for name, stand_in in taken.items()]):
        return torch.load(data, map_location="cpu", weights_only=True)


def _tensors(module: object, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for name, value in vars(module).items() if isinstance(module, ScriptObject) else ():
        if isinstance(value, Tensor):
            yield prefix + name, value
        else:
            yield from _tensors(value, f"{prefix}{name}.")
