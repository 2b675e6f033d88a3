"""Where a model computes and with which numbers: what can be asked for, and what this machine has."""

from __future__ import annotations

import torch

from secfpp.errors import Problem

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def device_named(name: str) -> torch.device | None:
    """The device called `name`, or None where this machine has no such device.

    Args:
        name: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    name = "cuda:0" if name == "cuda" else name
    return torch.device(name) if name in _present() else None


def device_problems(name: str, key: str) -> list[Problem]:
    """What is wrong with asking for the device `name` by the setting `key`; nothing if it is there. Takes no time."""
    if device_named(name) is not None:
        return []
    allowed = f"auto, {', '.join(_present())} on this machine"
    if name.startswith("cuda"):
        reason = "this PyTorch is built without CUDA" if torch.version.cuda is None else "PyTorch finds no such GPU"
        allowed += f"; {reason}: set auto or cpu, or see what secfpp doctor says"
    return [Problem(key, name, allowed)]


def computed_on(device: str, dtype: str, compiled: bool = False) -> dict[str, str]:
    """What results say of how they were computed with these settings: ``device``, a GPU's name too, ``precision``.

    And ``compiled``, if something was.
    """
    chosen = device_named(device)
    card = f" ({torch.cuda.get_device_name(chosen)})" if chosen is not None and chosen.type == "cuda" else ""
    said = {"device": f"{chosen or device}{card}", "precision": dtype}
    return said | ({"compiled": "text tower"} if compiled else {})


def _present() -> list[str]:
    present = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    return [*present, "mps"] if torch.backends.mps.is_available() else present
