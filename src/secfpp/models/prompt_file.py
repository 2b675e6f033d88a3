"""One client's prompt in a file of its own: what was learned, for which classes and model, and how to predict with it.

The file is safetensors, of tensors and metadata of strings: ``prompt`` float32 [n_ctx, text_dim], or
[n_cls, n_ctx, text_dim] with a context for each single class; of methods that predict on two levels ``domain_prompt``
of the same shape, and ``familiar`` bool [n_cls] or, in the metadata, the ``pool`` that joins them; of methods with a
visual part ``visual_weights`` float32 [levels, n_cls, projection], ``visual_bias`` [levels, n_cls] and ``text_weight``
[levels], or, if it remembers images, with rows in place of n_cls and ``visual_memory`` [levels, rows, n_cls]; of
methods that predict with it ``log_prior`` float32 [n_cls]; to tell images unlike the client's, ``image_mean`` and
``image_spread`` float32 [projection].

It is private to the client: ``prompt`` was learned on its images, of which ``visual_weights`` holds class means;
``log_prior`` says how often each class occurs among them, ``familiar`` which do often enough, and ``image_mean`` is
their mean. ``domain_prompt`` is an average over the client's group, known to the others of the group.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from safetensors import SafetensorError

from secfpp.errors import ConfigError, DataError, Problem
from secfpp.grey_depth import GreyWindow
from secfpp.images import SIZE, ImagesLike, as_array
from secfpp.models.prompt_checks import MEMORY, VISUAL, problems_of
from secfpp.storage import arrays_bytes, atomic_write, read_arrays

if TYPE_CHECKING:
    from torch import Tensor

    from secfpp.models.backbone import Backbone
    from secfpp.models.pools import Pool
    from secfpp.models.ready_prompt import ReadyPrompt

FORMAT = "secfpp-prompt-7"
READABLE = (*(f"secfpp-prompt-{number}" for number in range(1, 7)), FORMAT)
Prior = Literal["own", "uniform"]
Level = Literal["personal", "domain"]
_NUMBERS = ("seed", "rounds", "image_size")
_OPTIONAL_ARRAYS = ("domain_prompt", "familiar", *VISUAL, MEMORY, "log_prior", "image_mean", "image_spread")
_ARRAYS = ("prompt", *_OPTIONAL_ARRAYS)
_TEXTS = ("client", "domain", "method", "backbone", "backbone_digest", "class_template")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ClientPrompt:
    """What one client predicts with.

    Attributes:
        prompt: the personal context vectors, float32 [n_ctx, text_dim]; or [n_cls, n_ctx, text_dim], a context for
            each single class.
        classes: names of the classes, in the order of scores.
        backbone: name of the model it was learned for, as `load_backbone` takes it.
        backbone_digest: hash of that model's content.
        domain_prompt: those of the client's domain, of the same shape, if the method predicts on two levels:
            `secfpp.models.scoring.redistributed` says how.
        familiar: with a domain prompt, the classes among which the personal one decides, bool [n_cls].
        trust: with a domain prompt, the weight of the personal one among them, 0..1.
        pool: with a domain prompt, how both are joined, if not so.
        visual_weights: linear scores of image features beside the prompts, such as class means give, for the personal
            level and then the domain's, float32 [levels, n_cls, projection]; `secfpp.models.scoring.Visual` says how.
        visual_bias: with them, float32 [levels, n_cls].
        text_weight: with them, the weight of each prompt's own scores, at least 0, float32 [levels].
        visual_memory: with them, what each row of `visual_weights` says of each class, where rows are remembered
            images, float32 [levels, rows, n_cls].
        log_prior: log of the client's smoothed class frequencies, float32 [n_cls], if the method predicts with them.
        image_mean: mean of the features of the client's training images, float32 [projection], if it is known;
            `secfpp.models.novelty` says what for.
        image_spread: with it, their standard deviation in each component, float32 [projection].
        novelty_threshold: with it, the novelty above which an image is unlike the client's.
        client: whose it is.
        domain: the client's domain, if known.
        method: that it was learned by.
        seed: of the training.
        rounds: of training.
        image_size: side in pixels at which image files are read, the one of the training images.
        grey_window: which grey values of more than 8 bits were black and white in training, if it is known: files with
            such are read so.
        class_template: how a class name is written behind the context, with ``{}`` for the name.

    Raises:
        DataError: shapes, values or names that do not fit together; all of them.
    """

    prompt: np.ndarray
    classes: tuple[str, ...]
    backbone: str
    backbone_digest: str
    domain_prompt: np.ndarray | None = None
    familiar: np.ndarray | None = None
    trust: float = 1.0
    pool: Pool | None = None
    visual_weights: np.ndarray | None = None
    visual_bias: np.ndarray | None = None
    text_weight: np.ndarray | None = None
    visual_memory: np.ndarray | None = None
    log_prior: np.ndarray | None = None
    image_mean: np.ndarray | None = None
    image_spread: np.ndarray | None = None
    novelty_threshold: float | None = None
    client: str = ""
    domain: str = ""
    method: str = ""
    seed: int = 0
    rounds: int = 0
    image_size: int = SIZE
    grey_window: GreyWindow | None = None
    class_template: str = "{}"

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        if problems := problems_of(self):
            raise DataError("; ".join(problems))
        for name, array in self._arrays().items():
            own = np.array(array, dtype=bool if name == "familiar" else np.float32, order="C")
            own.setflags(write=False)
            object.__setattr__(self, name, own)
        object.__setattr__(self, "trust", float(self.trust))
        if self.novelty_threshold is not None:
            object.__setattr__(self, "novelty_threshold", float(self.novelty_threshold))
        if self.grey_window is not None:
            object.__setattr__(self, "grey_window", (float(self.grey_window[0]), float(self.grey_window[1])))

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.prompt.shape[-2:]))
        single = " for each class" if self.prompt.ndim == 3 else ""
        levels = "" if self.domain_prompt is None else " on two levels"
        held = {"a visual part": self.visual_weights, "log_prior": self.log_prior, "novelty": self.image_mean}
        extras = ", ".join(name for name, array in held.items() if array is not None)
        return (
            f"ClientPrompt(client={self.client!r}, method={self.method!r}, backbone={self.backbone!r}, "
            f"{len(self.classes)} classes, {shape}{single}{levels}{extras and f', with {extras}'})"
        )

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all, readable by its owner only; an existing one is replaced."""
        atomic_write(Path(path), self.to_bytes())

    def to_bytes(self) -> bytes:
        """The content of the file."""
        about = {"format": FORMAT, "classes": json.dumps(self.classes)}
        about |= {name: getattr(self, name) for name in _TEXTS}
        about |= {name: str(getattr(self, name)) for name in _NUMBERS}
        about |= {} if self.familiar is None else {"trust": repr(self.trust)}
        about |= {} if self.pool is None else {"pool": json.dumps(self.pool.record())}
        about |= {} if self.novelty_threshold is None else {"novelty_threshold": repr(self.novelty_threshold)}
        about |= {} if self.grey_window is None else {"grey_window": json.dumps(self.grey_window)}
        return arrays_bytes(self._arrays(), about)

    def one_level(self, level: Level = "personal") -> ClientPrompt:
        """The personal or the domain prompt alone, with its visual part, which predicts less well than both.

        The personal one on classes that the client has few images of, or none; the domain one on those that it has.

        Raises:
            ConfigError: there is no such level.
        """
        kept = {"personal": self.prompt, "domain": self.domain_prompt}.get(level)
        if kept is None:
            levels = "personal" if self.domain_prompt is None else "personal or domain"
            raise ConfigError([Problem("level", level, f"{levels}: this prompt has no other level")])
        at = slice(-1, None) if level == "domain" else slice(1)
        visual = {name: part[at] for name in (*VISUAL, MEMORY) if (part := getattr(self, name)) is not None}
        of = self.without_novelty() if level == "domain" else self  # that is of the client's own images
        alone = replace(of.without_visual(), prompt=kept, domain_prompt=None, familiar=None, trust=1.0, pool=None)
        return replace(alone, **visual)

    def without_visual(self) -> ClientPrompt:
        """The prompts alone, as they are; `with_class_contexts` makes one that says what the visual part does."""
        return replace(self, visual_weights=None, visual_bias=None, text_weight=None, visual_memory=None)

    def without_novelty(self) -> ClientPrompt:
        """The same without what tells images unlike the client's."""
        return replace(self, image_mean=None, image_spread=None, novelty_threshold=None)

    def without_prior(self) -> ClientPrompt:
        """The same without what tells the client's classes or the mean of its images, for giving it away.

        Class frequencies and familiar classes are left out. Two levels cannot be used without the latter, so that
        of those the personal prompt remains; ``one_level("domain").without_prior()`` keeps the other one. The visual
        part is left out on every level. The personal one's class means are the client's own images and show which
        classes it has. The domain level's are of others' images too, who have not agreed to more than their group
        knowing them, and hold how this client's images differ from theirs.

        Raises:
            ConfigError: contexts of single classes, which tell the client's classes themselves.
        """
        if self.prompt.ndim == 3:
            remedy = "tell the client's classes themselves: take the prompt that they were made from"
            raise ConfigError([Problem("prompt", "contexts of single classes", remedy)])
        return replace(self.one_level().without_visual().without_novelty(), log_prior=None)

    def with_class_contexts(
        self, images: ImagesLike, *, backbone: Backbone | str | None = None, prior: Prior = "uniform"
    ) -> ClientPrompt:
        """A prompt alone that predicts as this one does, for software that knows nothing else, or for `to_coop`.

        It has a context for each single class, and no other level or visual part. It is fitted on `images`, without
        labels, and as private as they are; `secfpp.models.class_contexts` says how, and how good it is.

        Raises:
            ConfigError: no such model.
            DataError: images that cannot be read, or another model than the prompt was learned for.
        """
        from secfpp.models.class_contexts import fit_class_contexts

        return fit_class_contexts(self, images, backbone, prior=prior)

    def pixels(self, images: ImagesLike, grey_window: GreyWindow | None = None) -> np.ndarray:
        """Images as this prompt was learned on them, uint8 [n, height, width, 3].

        Args:
            images: as for `predict_proba`.
            grey_window: grey values of more than 8 bits that are black and white, if not those of the training images.
                A `DataWarning` tells where the images do not go with those.

        Raises:
            ConfigError: a window between whose ends nothing lies.
            DataError: images that cannot be read.
        """
        return as_array(images, self.image_size, grey_window, self.grey_window)

    def predict(
        self, images: ImagesLike, *, backbone: Backbone | str | None = None, prior: Prior | None = None
    ) -> list[str]:
        """The class of each image; see `predict_proba`."""
        best = self.predict_proba(images, backbone=backbone, prior=prior).argmax(axis=1)
        return [self.classes[i] for i in best]

    def predict_proba(
        self, images: ImagesLike, *, backbone: Backbone | str | None = None, prior: Prior | None = None
    ) -> np.ndarray:
        """Probability of each class for each image, float32 [n, n_cls], rows sum to 1.

        Args:
            images: files, folders (all images below), Pillow images or uint8 arrays; one or several.
            backbone: the model, or its name; by default it is loaded by the name it was trained under.
            prior: ``own`` expects the classes as often as the client has them, ``uniform`` all alike. By default
                ``own`` if the prompt knows the frequencies.

        Raises:
            ConfigError: no such model, or the frequencies are asked for and not there.
            DataError: images that cannot be read, or another model than the prompt was learned for.
        """
        self.require_prior(prior)
        pixels, ready = self.pixels(images), self.ready(backbone)
        return ready.probabilities(ready.seen(pixels), prior)

    def require_prior(self, prior: str | None) -> None:
        """Refuse a prior that there is not.

        Raises:
            ConfigError: another word than ``own`` and ``uniform``, or ``own`` without class frequencies.
        """
        if prior not in (None, "own", "uniform"):
            raise ConfigError([Problem("prior", prior, "own or uniform")])
        if prior == "own" and self.log_prior is None:
            raise ConfigError([Problem("prior", prior, "this prompt holds no class frequencies: take uniform")])

    def novelty(self, images: ImagesLike, *, backbone: Backbone | str | None = None) -> np.ndarray:
        """How unlike the client's training images each image is, float32 [n]: 1 on average for those.

        Args:
            images: as for `predict_proba`.
            backbone: as for `predict_proba`.

        Raises:
            ConfigError: no such model, or a prompt that does not know what the client's images are like.
            DataError: images that cannot be read, or another model than the prompt was learned for.
        """
        pixels, ready = self.pixels(images), self.ready(backbone)
        return ready.novelty(ready.model.features(pixels))

    def unlike_training(self, images: ImagesLike, *, backbone: Backbone | str | None = None) -> np.ndarray:
        """Whether each image is so unlike the client's that a label for it means little, bool [n]; see `novelty`.

        Of images like the client's, one in twenty is.
        """
        unlike: np.ndarray = self.novelty(images, backbone=backbone) > self.novelty_threshold
        return unlike

    def logits(self, features: Tensor, backbone: Backbone | str | None = None) -> Tensor:
        """Logits of image features [n, projection] without any prior, float [n, n_cls].

        Raises:
            ConfigError: no such model.
            DataError: another model than the prompt was learned for, or features of another size.
        """
        return self.ready(backbone).logits(features)

    def ready(self, backbone: Backbone | str | None = None) -> ReadyPrompt:
        """What predicts with this prompt from image features, its class features computed once.

        Raises:
            ConfigError: no such model, or class names that it refuses.
            DataError: another model than the prompt was learned for.
        """
        from secfpp.models.ready_prompt import ReadyPrompt

        return ReadyPrompt(self, self.model(backbone))

    def class_features(self, backbone: Backbone | str | None = None, level: Level = "personal") -> np.ndarray:
        """What image features are compared with on one level, float32 [n_cls, projection], unit length.

        Raises:
            ConfigError: no such model or level, or class names that the model refuses.
            DataError: another model than the prompt was learned for.
        """
        import torch

        prompt, model = self.one_level(level).prompt, self.model(backbone)
        names = [self.class_template.replace("{}", name) for name in self.classes]
        vectors = torch.tensor(prompt, device=model.device)
        tokens = model.class_tokens(names, prompt.shape[-2])
        with torch.no_grad():
            single = prompt.ndim == 3
            encoded = (
                model.single_class_features(vectors, tokens)
                if single
                else model.class_features(vectors[None], tokens)[0]
            )
        features: np.ndarray = encoded.float().cpu().numpy()
        return features

    def model(self, backbone: Backbone | str | None = None) -> Backbone:
        """The model this prompt was learned for: `backbone`, loaded if it is a name, and checked.

        Raises:
            ConfigError: no such model.
            DataError: another model; names both.
        """
        from secfpp.models.backbone import load_backbone, require_model

        loaded = load_backbone(backbone or self.backbone) if backbone is None or isinstance(backbone, str) else backbone
        require_model(loaded, self.backbone, self.backbone_digest)
        return loaded

    def _arrays(self) -> dict[str, np.ndarray]:
        """The arrays that are there, by name."""
        known = {name: getattr(self, name) for name in _ARRAYS}
        return {name: array for name, array in known.items() if array is not None}


def load_prompt(path: str | Path) -> ClientPrompt:
    """Read a client's prompt.

    Raises:
        DataError: no such file, a damaged one, or another kind of file.
    """
    remedy = "give a file that secfpp wrote: runs/NAME/prompts/METHOD/SEED/CLIENT.safetensors"
    try:
        arrays, about = read_arrays(Path(path))
        return _read(arrays, about)
    except OSError as error:
        raise DataError(f"prompt file {path}: {error.strerror or error}; {remedy}") from error
    except (SafetensorError, DataError, ValueError) as error:
        raise DataError(f"prompt file {path}: {error}; {remedy}") from error


def _read(arrays: Mapping[str, np.ndarray], about: Mapping[str, str]) -> ClientPrompt:
    from secfpp.models.pools import pool_from

    if about.get("format") not in READABLE:
        raise DataError(f"not a prompt (format {about.get('format')!r}, not one of {', '.join(READABLE)})")
    if "prompt" not in arrays or not {"classes", "backbone", "backbone_digest"} <= set(about):
        raise DataError("it lacks the prompt, its classes or its model")
    classes = json.loads(about["classes"])
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise DataError("its classes are no list of names")
    if {"domain_prompt", "familiar"} <= set(arrays) and "trust" not in about:
        raise DataError("it has two levels and does not say how far to trust the personal one")
    return ClientPrompt(
        prompt=arrays["prompt"],
        **{name: arrays.get(name) for name in _OPTIONAL_ARRAYS},
        novelty_threshold=float(about["novelty_threshold"]) if "novelty_threshold" in about else None,
        trust=float(about.get("trust", 1)),
        pool=pool_from(json.loads(about["pool"])) if "pool" in about else None,
        classes=tuple(classes),
        seed=int(about.get("seed", 0)),
        rounds=int(about.get("rounds", 0)),
        image_size=int(about.get("image_size", SIZE)),
        grey_window=tuple(json.loads(about["grey_window"])) if "grey_window" in about else None,
        backbone=about["backbone"],
        backbone_digest=about["backbone_digest"],
        client=about.get("client", ""),
        domain=about.get("domain", ""),
        method=about.get("method", ""),
        class_template=about.get("class_template", "{}"),
    )
