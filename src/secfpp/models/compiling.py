"""Blocks of a text tower compiled by PyTorch, ``torch.compile``, for training steps.

One block is compiled, not a whole tower: all blocks of a tower have one shape and take their weights as arguments, so
that they run one and the same code, and compiling takes no longer for a deep tower. The axis of prompts has any length
in that code; all others are fixed. A block is compiled whole or not at all (``fullgraph``).

Only passes whose gradients will be asked for are compiled, those of training; others would be compiled once more each,
for little. What compiled code cannot do is gradients for a batch of cotangents at once, and gradients twice: who needs
these encodes within `uncompiled`.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from secfpp.errors import ConfigError, Problem
from secfpp.models.devices import device_named

Parts = tuple[Callable[..., Tensor], Callable[..., Tensor]]
"""A tower's block, and its last one."""
BACKEND = "inductor"
"""Of ``torch.compile``."""
MOST = 32
"""Shapes that a block is compiled for; more, as of thousands of classes in chunks of their own, are not compiled."""
PROCESS = 8 * MOST
"""The same for all towers of a process: code is PyTorch's, which by default goes on without from the ninth shape."""
OLDEST_GPU = (7, 0)
"""Compute capability from which on Triton makes code."""
SAID = 300
"""Characters of an error of PyTorch that are told."""
_off = ContextVar("off", default=False)


class CompiledBlock:
    """A function of states and more that is compiled for passes whose gradients will be asked for.

    Args:
        block: ``(x, ...) -> Tensor``.
        along: of so many first arguments, which may be None but for `x`, the first axis is of any length; it is the
            same for all.
    """

    def __init__(self, block: Callable[..., Tensor], along: int = 1) -> None:
        import torch._dynamo

        config: Any = torch._dynamo.config
        config.recompile_limit = max(config.recompile_limit, PROCESS)
        config.accumulated_recompile_limit = max(config.accumulated_recompile_limit, PROCESS)
        self._plain, self._along, self._mark = block, along, torch._dynamo.mark_dynamic
        self._compiled = torch.compile(block, backend=BACKEND, fullgraph=True, dynamic=False)
        self._shapes: set[Any] = set()

    def __call__(self, *given: Any) -> Tensor:
        """As the function itself, up to rounding."""
        if not (torch.is_grad_enabled() and given[0].requires_grad):
            return self._plain(*given)
        moving = [each for each in given[: self._along] if each is not None]
        single = len(moving[0]) == 1  # PyTorch takes a length of 1 for a constant
        fixed = [getattr(each, "shape", None) for each in given[self._along :]]
        shape = (single, *(each.shape[1:] for each in moving), *fixed)
        if shape not in self._shapes:
            if len(self._shapes) >= MOST:
                return self._plain(*given)
            self._shapes.add(shape)
        if not single:
            for each in moving:
                self._mark(each, 0)
        return self._compiled(*given)


@contextmanager
def uncompiled() -> Iterator[None]:
    """Within it class features are made by what is not compiled, and so are their gradients, also later."""
    before = _off.set(True)
    try:
        yield
    finally:
        _off.reset(before)


def turned_off() -> bool:
    """Whether this is within `uncompiled`."""
    return _off.get()


def compile_problems(device: str, key: str) -> list[Problem]:
    """Why nothing can be compiled for the device `device`, asked for by the setting `key`; nothing if it can."""
    chosen = device_named(device)
    if chosen is None:
        return []  # that is another problem
    reason = _lacking(chosen)
    return [Problem(key, True, f"{reason}, or leave it out: only speed depends on it")] if reason else []


def try_to_compile(device: torch.device) -> None:
    """Compile something small, with its gradient, once a process: whether it works, before anything long is begun.

    Raises:
        ConfigError: it does not; with what PyTorch says.
    """
    if reason := _failure(device, BACKEND):
        allowed = f"leave it out, only speed depends on it: PyTorch cannot compile for {device} here ({reason})"
        raise ConfigError([Problem("backbone.compile", True, allowed)])


def _lacking(device: torch.device) -> str:
    """What `device` needs for compiling and does not have; empty if there is all."""
    if sys.platform == "win32" or device.type not in ("cpu", "cuda"):
        return f"false on {sys.platform if device.type in ('cpu', 'cuda') else device.type}: it was not tried there"
    if device.type == "cuda":
        if find_spec("triton") is None:
            return "needs Triton: pip install triton"
        if torch.cuda.get_device_capability(device) < OLDEST_GPU:
            return f"needs a GPU of compute capability {'.'.join(map(str, OLDEST_GPU))} or newer"
        if not any(map(shutil.which, (os.environ.get("CC") or "gcc", "clang"))):
            return "needs a C compiler for Triton (Debian: apt install gcc; CC names another)"
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        return f"needs the C++ compiler {compiler!r}, which is not there (Debian: apt install g++; CXX names another)"
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return "needs Python.h (Debian: apt install python3-dev)"
    return ""


@cache
def _failure(device: torch.device, backend: str) -> str:
    x = torch.ones(2, 8, device=device, requires_grad=True)
    try:
        compiled = torch.compile(_small, backend=backend, fullgraph=True, dynamic=False)
        compiled(x).sum().backward()
    except Exception as error:  # whatever it is, it says that compiling does not work
        said = " ".join(str(error).split())
        return f"{type(error).__name__}: {said[:SAID]}"
    return ""


def _small(x: Tensor) -> Tensor:
    return torch.softmax(x.sin(), -1)
