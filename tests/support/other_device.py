"""A stand-in for a GPU: tensors of this machine, told apart as those of two devices would be.

Tensors that are made without naming a device, or come from NumPy, are *here*; those that are made on a named device,
or are taken to it, are *there*, and so is what is computed from them. What PyTorch would refuse with a GPU is refused:
arrays of both kinds in one operation, and NumPy's view of a tensor that is there. A number without axes from here, and
indices from here into what is there, may be mixed in, as PyTorch allows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

HERE = torch.device("cpu", 0)
"""What tensors that are here call their device, so that others can be taken to it; there is ``cpu`` without number."""
_READ = ("item", "tolist", "__bool__", "__int__", "__float__", "__index__", "__format__", "__repr__", "__len__")


class MixedDevicesError(AssertionError):
    """An operation that a GPU would have refused."""


def is_here(tensor: Tensor) -> bool:
    return getattr(tensor, "_is_here", False)


def _mark(found: Any, here: bool) -> Any:
    for tensor in _tensors(found):
        tensor._is_here = here  # type: ignore[attr-defined]
    return found


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _tensors(each)


def _named(args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.device | None:
    """The device that a call names, if any."""
    given = [kwargs.get("device"), *args]
    return next((torch.device(one) for one in given if isinstance(one, (torch.device, str))), None)


class _Watching(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        given = list(_tensors([list(args), kwargs]))
        if name == "numpy" and not is_here(args[0]):
            raise MixedDevicesError("NumPy cannot see a tensor on another device: take it to the CPU first")
        if name == "cpu":
            return _mark(args[0].detach().clone() if not args[0].requires_grad else func(*args, **kwargs), True)
        if func == Tensor.device.__get__:  # type: ignore[attr-defined]
            return HERE if is_here(args[0]) else func(*args, **kwargs)
        if name in _READ:
            return func(*args, **kwargs)
        if name == "to":
            found, wanted = func(*args, **kwargs), _named(args[1:], kwargs)
            here = is_here(given[-1]) if wanted is None else wanted == HERE
            return found if here == is_here(found) else _mark(found.view_as(found), here)
        if not given:
            return _mark(func(*args, **kwargs), _named((), kwargs) in (None, HERE))
        there = any(not is_here(each) for each in given)
        if name not in ("copy_", "__get__", "__set__", "result_type", "backward"):
            self._require_one(name, args, given)
        found = func(*args, **kwargs)
        if (wanted := _named((), kwargs)) is not None:
            there = wanted != HERE
        for each in _tensors(found):
            if not any(each is own for own in given):
                _mark(each, not there)
        return found

    @staticmethod
    def _require_one(name: str, args: Any, given: Sequence[Tensor]) -> None:
        if name in ("__getitem__", "__setitem__"):
            given = [args[0], *_tensors(args[2:]), *(t for t in _tensors(args[1]) if is_here(args[0]))]
        there = [each for each in given if not is_here(each)]
        here = [each for each in given if is_here(each) and (each.ndim or any(t.ndim == 0 for t in there))]
        if there and any(each.ndim for each in here):
            raise MixedDevicesError(f"{name}: arrays of both devices: {[tuple(t.shape) for t in given]}")


@contextmanager
def elsewhere() -> Iterator[None]:
    """Devices that are named are another one than where tensors are made that name none."""
    made = torch.from_numpy

    def from_numpy(array: np.ndarray) -> Tensor:
        tensor: Tensor = _mark(made(array), True)
        return tensor

    with pytest.MonkeyPatch.context() as patched, _Watching():
        patched.setattr(torch, "from_numpy", from_numpy)
        yield
