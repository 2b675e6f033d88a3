"""Frozen vision-language models behind one small protocol.

Image features are computed once and cached on disk; class features are computed from prompts by
`secfpp.models.text_prefix` and are differentiable in them. Nothing here is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from secfpp.cachedir import sub_cache
from secfpp.errors import ConfigError, DataError, Problem
from secfpp.models.cache import FeatureCache
from secfpp.models.checkpoint import Checkpoint, load_checkpoint
from secfpp.models.class_names import Vocabulary
from secfpp.models.compiling import compile_problems, try_to_compile
from secfpp.models.devices import DTYPES, device_named, device_problems
from secfpp.models.public_images import public_images
from secfpp.models.text_layers import ClassTokens

__all__ = ["Backbone", "BackboneSpec", "ClassTokens", "DualEncoder", "load_backbone"]

BATCH_TOKENS = {"cpu": 1_500, "cuda": 50_000, "mps": 12_000}  # patches encoded at once


@dataclass(frozen=True)
class BackboneSpec:
    """What a model is: widths, sizes in pixels and tokens, and `digest`, the hash of its content."""

    name: str
    text_dim: int
    context_length: int
    projection: int
    image_size: int
    digest: str


class Backbone(Protocol):
    """A frozen model that scores images against class names in a context of prompt vectors."""

    spec: BackboneSpec
    device: torch.device
    logit_scale: float
    logit_bias: float
    """What a sigmoid of one class's score takes beside it; see `secfpp.models.families.base.Towers`."""

    def features(self, images: np.ndarray) -> Tensor:
        """uint8 [n, height, width, 3] -> float32 [n, projection], unit length."""
        ...

    def patch_features(self, images: np.ndarray) -> Tensor:
        """uint8 [n, height, width, 3] -> float32 [n, patches, projection], of each patch, unit length."""
        ...

    def keeping_nothing(self) -> Backbone:
        """The same model, which leaves nothing of images on disk."""
        ...

    def class_tokens(self, names: Sequence[str], n_ctx: int) -> ClassTokens:
        """Tokenise class names that will follow `n_ctx` context vectors."""
        ...

    def class_features(self, prompts: Tensor, tokens: ClassTokens) -> Tensor:
        """[k, n_ctx, text_dim] -> [k, n_cls, projection], unit length, differentiable in `prompts`."""
        ...

    def single_class_features(self, contexts: Tensor, tokens: ClassTokens) -> Tensor:
        """[n_cls, n_ctx, text_dim], a context for each single class -> [n_cls, projection]; otherwise the same."""
        ...

    def embed(self, text: str, *, whole: bool = False) -> Tensor:
        """[n_tokens, text_dim]: the token embeddings of `text`, with start and end token if `whole`."""
        ...

    def initial_prompt(self, text: str, n_ctx: int) -> np.ndarray:
        """float32 [n_ctx, text_dim]: a prompt that starts from the words of `text`."""
        ...

    def public_mean(self) -> np.ndarray:
        """float32 [projection]: the mean feature of images that everybody can make."""
        ...


class DualEncoder:
    """Two frozen towers as a `Backbone`; made by `load_backbone`."""

    def __init__(
        self,
        name: str,
        checkpoint: Checkpoint,
        device: torch.device,
        dtype: torch.dtype,
        cache: Path,
        compile: bool = False,
    ) -> None:
        digest = checkpoint.digest()
        towers = checkpoint.family.towers(checkpoint, device, dtype)
        self.spec = BackboneSpec(
            name=name,
            text_dim=towers.text_dim,
            context_length=towers.layout.places,
            projection=towers.projection,
            image_size=towers.image_size,
            digest=digest,
        )
        self.device, self.dtype, self.compiled = device, dtype, compile
        if compile:
            towers.text.compile()
        self.logit_scale, self.logit_bias = towers.logit_scale, towers.logit_bias
        self._batch = max(1, BATCH_TOKENS[device.type] // towers.image_tokens)
        self._cache, self._processor = FeatureCache(cache), checkpoint.images
        self._vocabulary = Vocabulary(
            name,
            checkpoint.tokenizer,
            lower=towers.layout.lower,
            spaced=towers.layout.spaced,
            cleaned=checkpoint.cleaned,
        )
        self._public_mean: np.ndarray | None = None
        self._towers = towers
        self._table = self._pixel_table()

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle names the model and holds none of it: it is loaded anew where the pickle is read, and checked."""
        dtype = str(self.dtype).removeprefix("torch.")
        folder = None if self._cache.folder == sub_cache("features") else self._cache.folder
        keeps = self._cache.folder is not None
        return _again, (self.spec.name, self.spec.digest, str(self.device), dtype, folder, keeps, self.compiled)

    def __deepcopy__(self, memo: dict[int, Any]) -> DualEncoder:
        """Itself, as nothing in it changes."""
        return self

    def features(self, images: np.ndarray) -> Tensor:
        """Unit-length image features, float32 [n, projection] on `device`; cached on disk.

        Args:
            images: uint8 [n, height, width, 3], RGB, of any size.

        Raises:
            DataError: another shape or number type.
        """
        return self._cached(images, "", self._towers.image)

    def patch_features(self, images: np.ndarray) -> Tensor:
        """Unit-length features of each patch, float32 [n, patches, projection] on `device`; cached on disk.

        Those of the last layer, taken to where `features` are: by the norm and the projection that the model has for
        the token of the whole image. So do methods that compare patches with class names (FedOTP, arXiv 2403.00041).

        Args:
            images: as for `features`.

        Raises:
            DataError: as there.
        """
        return self._cached(images, "/patches", self._towers.patches)

    def _cached(self, images: np.ndarray, kind: str, way: Callable[[Tensor], Tensor]) -> Tensor:
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise DataError(
                f"images are {images.dtype} of shape {images.shape}; give uint8 [n, height, width, 3] with RGB values"
            )
        key = self._cache.key(f"{self.spec.digest}/{self.dtype}{kind}", images)
        return torch.from_numpy(self._cache.get(key, lambda: self._encode(images, way))).to(self.device)

    def keeping_nothing(self) -> DualEncoder:
        """The same model with the same weights in memory, of whose images nothing is cached on disk."""
        other = object.__new__(type(self))  # copy.copy would load it anew, see __reduce__
        other.__dict__.update(self.__dict__ | {"_cache": FeatureCache(None)})
        return other

    @torch.no_grad()
    def _encode(self, images: np.ndarray, way: Callable[[Tensor], Tensor]) -> np.ndarray:
        """Unit-length features of what `way` makes of pixels [n, 3, size, size]."""
        parts, some = [], images if len(images) else np.zeros((1, *images.shape[1:]), np.uint8)
        for at in range(0, len(some), self._batch):
            pixels = torch.from_numpy(self._pixels(some[at : at + self._batch])).to(self.device, self.dtype)
            parts.append(F.normalize(way(pixels).float(), dim=-1).cpu().numpy())
        return np.concatenate(parts)[: len(images)]

    def _pixels(self, images: np.ndarray) -> np.ndarray:
        """The checkpoint's own image processing: uint8 [n, height, width, 3] -> float32 [n, 3, size, size]."""
        if self._table is not None and images.shape[1:3] == (self.spec.image_size, self.spec.image_size):
            return np.stack([self._table[channel][images[..., channel]] for channel in range(3)], axis=1)
        return self._process(images)

    def _process(self, images: np.ndarray) -> np.ndarray:
        processed = self._processor(list(images), return_tensors="np", input_data_format="channels_last")
        return np.asarray(processed["pixel_values"], dtype=np.float32)

    def _pixel_table(self) -> np.ndarray | None:
        """What the processor makes of each byte in each channel, float32 [3, 256], at the model's image size.

        None where the processor does more than look at each pixel alone, as random noise shows.

        Raises:
            ConfigError: the processor's images are not of the size the model takes.
        """
        size = self.spec.image_size
        shape = (1, size, size, 3)
        noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        expected = self._process(noise)
        if expected.shape != (1, 3, size, size):
            raise ConfigError(
                [Problem("backbone.name", self.spec.name, f"its processor makes {expected.shape}, not {size} pixels")]
            )
        if size * size < 256:
            return None
        ramp = np.broadcast_to((np.arange(size * size) % 256).astype(np.uint8).reshape(1, size, size, 1), shape)
        table = self._process(ramp)[0].reshape(3, -1)[:, :256]
        looked_up = np.stack([table[channel][noise[..., channel]] for channel in range(3)], axis=1)
        return table if np.array_equal(looked_up, expected) else None

    def class_tokens(self, names: Sequence[str], n_ctx: int) -> ClassTokens:
        """Tokenise class names as they stand (underscores are not replaced).

        Raises:
            ConfigError: no name, an empty one, one given twice (also when two names differ only in what the tokenizer
                ignores, such as case), one with a character that the vocabulary lacks, or one that is too long; all
                of them.
        """
        layout = self._towers.layout
        room = layout.room(n_ctx)
        if n_ctx < 0 or room < 1:
            allowed = f"0 to {layout.room(1)} for a model that reads {layout.places} tokens"
            raise ConfigError([Problem("n_ctx", n_ctx, allowed)])
        if not names:
            raise ConfigError([Problem("class names", list(names), "at least one name")])
        if problems := self._vocabulary.problems(names, room, n_ctx):
            raise ConfigError(problems)
        return layout.class_tokens(tuple(names), [self._vocabulary.name_ids(name) for name in names])

    def class_features(self, prompts: Tensor, tokens: ClassTokens) -> Tensor:
        """Unit-length class features, float32 [k, n_cls, projection], of prompts [k, n_ctx, text_dim].

        Raises:
            ConfigError: prompts of another width, or too many context vectors for the class names.
        """
        self._require_width(prompts, "prompts")
        return self._towers.text(prompts.to(self.device), tokens)

    def single_class_features(self, contexts: Tensor, tokens: ClassTokens) -> Tensor:
        """Unit-length class features, float32 [n_cls, projection], of contexts [n_cls, n_ctx, text_dim], one a class.

        Raises:
            ConfigError: another number of contexts than of classes, another width, or too many context vectors.
        """
        self._require_width(contexts, f"{len(tokens.names)} classes")
        if len(contexts) != len(tokens.names):
            raise ConfigError([Problem("contexts", len(contexts), f"one for each of {len(tokens.names)} classes")])
        return self._towers.text.single(contexts.to(self.device), tokens)

    def _require_width(self, prompts: Tensor, what: str) -> None:
        if prompts.ndim != 3 or prompts.shape[-1] != self.spec.text_dim:
            allowed = f"[{what}, context vectors, {self.spec.text_dim}]"
            raise ConfigError([Problem("prompts", tuple(prompts.shape), allowed)])

    def embed(self, text: str, *, whole: bool = False) -> Tensor:
        """Token embeddings of `text`, float32 [n_tokens, text_dim], with start and end token if `whole`."""
        layout, tokens = self._towers.layout, self._vocabulary.ids(text)
        if whole:
            tokens = [*layout.start, *tokens, layout.end]
        ids = torch.tensor(tokens, dtype=torch.long, device=self.device)
        return F.embedding(ids, self._towers.text.tokens).float()

    def initial_prompt(self, text: str, n_ctx: int) -> np.ndarray:
        """float32 [n_ctx, text_dim]: the last `n_ctx` embeddings of `text`, repeated from its start if there are fewer.

        Raises:
            ConfigError: `text` has no token, or a character that the vocabulary lacks.
        """
        if reason := self._vocabulary.unreadable(text):
            raise ConfigError([Problem("initial prompt", text, reason)])
        embedded = self.embed(text).cpu().numpy()
        if not len(embedded):
            raise ConfigError([Problem("initial prompt", text, "a text of at least one word")])
        return np.resize(embedded[-n_ctx:], (n_ctx, self.spec.text_dim)) if n_ctx else embedded[:0]

    def public_mean(self) -> np.ndarray:
        """float32 [projection]: the mean feature of `secfpp.models.public_images`, the same for everybody."""
        if self._public_mean is None:  # every client asks for it
            self._public_mean = self.features(public_images(self.spec.image_size)).mean(dim=0).cpu().numpy()
            self._public_mean.flags.writeable = False
        return self._public_mean


def load_backbone(
    name: str = "mini",
    *,
    device: str = "auto",
    threads: int | None = None,
    dtype: str = "float32",
    compile: bool = False,
    cache_dir: Path | None = None,
) -> Backbone:
    """Load a frozen CLIP, or another model of `secfpp.models.families`.

    Args:
        name: ``mini`` (the embedded model), a checkpoint's directory, or its name on the Hugging Face hub.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        threads: CPU threads of this process from now on; None leaves PyTorch's choice.
        dtype: ``float32``, ``bfloat16`` or ``float16``, in which both towers compute; results are float32.
        compile: whether PyTorch compiles what makes class features in training steps (`secfpp.models.compiling`), which
            takes a minute or so at the first step and moves last bits.
        cache_dir: root of the feature cache instead of `secfpp.cachedir.cache_root`.

    Raises:
        ConfigError: settings that cannot work (all of them are named), or no usable checkpoint under `name`.
    """
    problems = device_problems(device, "backbone.device")
    if compile:
        problems += compile_problems(device, "backbone.compile")
    if dtype not in DTYPES:
        problems.append(Problem("backbone.dtype", dtype, f"one of {', '.join(DTYPES)}"))
    if threads is not None and threads < 1:
        problems.append(Problem("backbone.threads", threads, "1 or more"))
    chosen = device_named(device)
    if problems or chosen is None:
        raise ConfigError(problems)
    if compile:
        try_to_compile(chosen)
    checkpoint = load_checkpoint(name)
    if threads is not None:
        torch.set_num_threads(threads)
    return DualEncoder(name, checkpoint, chosen, DTYPES[dtype], sub_cache("features", cache_dir), compile)


def require_model(model: Backbone, name: str, digest: str) -> None:
    """Refuse another model than the one of this `digest`, which something was learned for under the name `name`.

    Raises:
        DataError: names both.
    """
    if model.spec.digest != digest:
        raise DataError(
            f"what is given was learned for the model {name!r} (content {digest[:12]}), but {model.spec.name!r} is "
            f"another one (content {model.spec.digest[:12]}): give the model it was learned for as backbone"
        )


def _again(
    name: str, digest: str, device: str, dtype: str, folder: Path | None, keeps: bool = True, compiled: bool = False
) -> Backbone:
    """The model that was pickled: loaded anew, on its device and compiled if that can be had here."""
    place = device if device_named(device) is not None else "auto"
    root = None if folder is None else folder.parent
    can = compiled and not compile_problems(place, "backbone.compile")
    model = load_backbone(name, device=place, dtype=dtype, compile=can, cache_dir=root)
    require_model(model, name, digest)
    return model if keeps else model.keeping_nothing()
