"""Prompts in the checkpoint layout of CoOp (github.com/KaiyangZhou/CoOp), there and back.

CoOp stores a torch file ``prompt_learner/model.pth.tar-EPOCH``. Its ``state_dict`` has the context ``ctx``
[n_ctx, dim], or [n_cls, n_ctx, dim] with one for each single class (``CSC``), and, of each class, the embeddings before
and behind it: ``token_prefix`` [n_cls, 1, dim] and ``token_suffix`` [n_cls, rest, dim], which CoOp itself makes anew
when it loads a file. Here they tell whether class names and model are the right ones. CoOp writes a class name with a
full stop behind it; `ClientPrompt.class_template` keeps that. There is room for a prompt alone: of a prompt on two
levels one is stored, and of a visual part nothing, unless all of it was put into contexts of single classes first.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from secfpp.errors import ConfigError, DataError
from secfpp.models.coop_relatives import relative_reason
from secfpp.models.prompt_file import ClientPrompt

if TYPE_CHECKING:
    from secfpp.models.backbone import Backbone

TEMPLATES = ("{}.", "{}")
"""How CoOp writes a class name, and how this package does."""
_SKIPPED = ("torch.optim.", "dassl.optim.")


def to_coop(prompt: ClientPrompt, backbone: Backbone | str | None = None) -> bytes:
    """The content of a CoOp checkpoint with this prompt; what tells the client's classes has no place in it.

    Args:
        prompt: to be exported; of two levels the personal one (`ClientPrompt.one_level` chooses), without its visual
            part (`ClientPrompt.with_class_contexts` keeps both).
        backbone: the model it was learned for, or its name; loaded by the prompt's own name by default.

    Raises:
        ConfigError: no such model, or class names that it refuses.
        DataError: another model than the prompt was learned for, or one that CoOp has no place for.
    """
    model = prompt.model(backbone)
    _require_start_token(model)
    n_ctx = prompt.prompt.shape[-2]
    names = _texts(prompt.class_template, prompt.classes)
    model.class_tokens(names, n_ctx)  # refuses what does not fit
    whole = torch.stack([_padded(model.embed(name, whole=True).cpu(), model.spec.context_length) for name in names])
    state = OrderedDict(
        ctx=torch.tensor(prompt.prompt),
        token_prefix=whole[:, :1].clone(),
        token_suffix=whole[:, 1 : model.spec.context_length - n_ctx].clone(),
    )
    file = io.BytesIO()
    torch.save({"state_dict": state, "epoch": prompt.rounds, "val_result": None}, file)
    return file.getvalue()


def from_coop(path: str | Path, classes: Sequence[str], backbone: Backbone, client: str = "") -> ClientPrompt:
    """The prompt in a CoOp checkpoint. No code that the file may hold is run.

    Args:
        path: of the file ``model.pth.tar-EPOCH`` or ``model-best.pth.tar``.
        classes: the class names in the order of CoOp's labels; underscores become spaces, as there.
        backbone: the CLIP it was trained with.
        client: whose it shall be.

    Raises:
        ConfigError: class names that the model refuses.
        DataError: no such file, another kind of file or of prompt learner (see `secfpp.models.coop_relatives`), or
            names or a model that are not those of the file; says which.
    """
    names = tuple(name.replace("_", " ") for name in classes)
    _require_start_token(backbone)
    checkpoint = _load(Path(path))
    state = checkpoint.get("state_dict")
    if isinstance(state, Mapping) and (reason := relative_reason(state, len(names))):
        raise DataError(f"{path}: {reason}")
    if not isinstance(state, Mapping) or not isinstance(state.get("ctx"), Tensor):
        raise DataError(f"{path}: not a checkpoint of CoOp's prompt learner (no state_dict with ctx)")
    ctx = state["ctx"].detach().float().cpu()
    ctx = ctx[0] if ctx.ndim == 3 and len(ctx) == 1 else ctx
    width = backbone.spec.text_dim
    if ctx.ndim not in (2, 3) or ctx.shape[-1] != width:
        raise DataError(
            f"{path}: ctx has shape {tuple(ctx.shape)}, but the model {backbone.spec.name!r} takes [n_ctx, {width}] "
            f"or [n_cls, n_ctx, {width}]: give the CLIP that it was trained with"
        )
    epoch = checkpoint.get("epoch")
    try:
        return ClientPrompt(
            prompt=ctx.numpy(),
            classes=names,
            backbone=backbone.spec.name,
            backbone_digest=backbone.spec.digest,
            client=client,
            method="coop",
            rounds=epoch if isinstance(epoch, int) else 0,
            image_size=backbone.spec.image_size,
            class_template=_template(state, names, ctx.shape[-2], backbone),
        )
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def coop_template(prompt: ClientPrompt, backbone: Backbone) -> str:
    """How CoOp writes this prompt's class names, or how `prompt` does, if the model cannot read CoOp's way."""
    usable = _readable(TEMPLATES[0], prompt.classes, prompt.prompt.shape[-2], backbone)
    return TEMPLATES[0] if usable else prompt.class_template


def _require_start_token(backbone: Backbone) -> None:
    """Refuse a model whose texts begin with their first word, as SigLIP's do: CoOp keeps a start token too."""
    if len(backbone.embed("", whole=True)) < 2:
        raise DataError(
            f"the model {backbone.spec.name!r} begins texts without a start token, but CoOp's layout has one: "
            "keep the prompt in SecFPP's own file"
        )


class _Skipped:
    """Stands for an object of the file that is not needed; takes anything and does nothing."""

    def __new__(cls, *args: object) -> _Skipped:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Forget it."""


def _plain(*arguments: object) -> dict[object, object]:
    """Stands for a dictionary with a default, which torch does not fill."""
    return {}


class _NumberType:
    """Stands for NumPy's type of a single number, such as ``f8``."""

    def __init__(self, code: str, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: tuple[object, ...]) -> None:
        self.code = f"{state[1] if state[1] in ('<', '>') else ''}{self.code}"


def _number(kind: _NumberType, content: bytes) -> object:
    """The single value that NumPy wrote so."""
    return np.frombuffer(content, kind.code)[0].item()


_REPLACED: dict[str, Callable[..., object]] = {
    "collections.defaultdict": _plain,
    "builtins.dict": dict,
    "numpy.dtype": _NumberType,
    "numpy.core.multiarray.scalar": _number,
    "numpy._core.multiarray.scalar": _number,
}


def _load(path: Path) -> Mapping[str, Any]:
    """The checkpoint's dictionary; optimiser and schedule, which CoOp saves as objects, come as `_Skipped`."""
    try:
        foreign = get_unsafe_globals_in_checkpoint(str(path))
        if strange := sorted(name for name in foreign if not name.startswith(_SKIPPED) and name not in _REPLACED):
            raise DataError(
                f"{path}: refused, it holds what no checkpoint of CoOp needs: {', '.join(strange[:3])}. If you trust "
                "where it is from, load it with torch and save its state_dict and epoch alone"
            )
        with safe_globals([(_REPLACED.get(name, _Skipped), name) for name in foreign]):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except DataError:
        raise
    except Exception as error:  # readers raise whatever they stumble over in damaged bytes
        raise DataError(f"{path}: not a torch file, or a damaged one") from error
    if not isinstance(loaded, Mapping):
        raise DataError(f"{path}: not a checkpoint but {type(loaded).__name__}")
    return loaded


def _template(state: Mapping[str, Any], names: tuple[str, ...], n_ctx: int, backbone: Backbone) -> str:
    """How the file writes class names behind the context, from its ``token_suffix`` (CoOp's way if there is none).

    Raises:
        ConfigError: names that the model refuses.
        DataError: the file is of other classes, or of another model.
    """
    suffix = state.get("token_suffix")
    usable = [template for template in TEMPLATES if _readable(template, names, n_ctx, backbone)]
    if not usable:
        backbone.class_tokens(names, n_ctx)  # says why
    if not isinstance(suffix, Tensor):
        return usable[0]
    if suffix.ndim != 3 or len(suffix) != len(names):
        raise DataError(f"it is for {len(suffix)} classes, but {len(names)} names are given")
    stored = suffix.detach().float().cpu().numpy()
    misfits: dict[str, list[str]] = {}
    for template in usable:
        texts = _texts(template, names)
        misfits[template] = [n for n, t, s in zip(names, texts, stored, strict=True) if not _begins(s, t, backbone)]
    best = min(usable, key=lambda template: len(misfits[template]))
    if not misfits[best]:
        return best
    raise DataError(
        f"class {misfits[best][0]!r} is not what the file has in its place: give CoOp's class names in CoOp's order, "
        f"and the CLIP that it was trained with ({backbone.spec.name!r} is given)"
    )


def _texts(template: str, names: Sequence[str]) -> list[str]:
    return [template.replace("{}", name) for name in names]


def _readable(template: str, names: Sequence[str], n_ctx: int, backbone: Backbone) -> bool:
    """Whether the model can read class names written so; a small vocabulary may lack the full stop."""
    try:
        backbone.class_tokens(_texts(template, names), n_ctx)
    except ConfigError:
        return False
    return True


def _begins(stored: np.ndarray, text: str, backbone: Backbone) -> bool:
    """Whether embeddings [length, dim] begin with those of `text` and the end token, up to half precision."""
    expected = backbone.embed(text, whole=True)[1:].cpu().numpy()
    begin = stored[: len(expected)]
    return begin.shape == expected.shape and np.allclose(begin, expected, rtol=2e-3, atol=1e-6)


def _padded(rows: Tensor, length: int) -> Tensor:
    """[n, dim] -> [length, dim], the end token again and again: the model, being causal, does not look there."""
    return torch.cat([rows, rows[-1:].expand(length - len(rows), -1)])
