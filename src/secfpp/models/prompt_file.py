"""One client's prompt in a file of its own: what was learned, for which classes and model, and how to predict with it.

The file is safetensors: a tensor ``prompt`` float32 [n_ctx, text_dim]; of methods that predict on two levels
``domain_prompt`` of the same shape and ``familiar`` bool [n_cls]; of methods that predict with it ``log_prior`` float32
[n_cls]; and metadata of strings. It is private to the client: ``prompt`` was learned on its images, ``log_prior`` says
how often each class occurs among them, and ``familiar`` which do often enough. ``domain_prompt`` is an average over
the client's group, known to the others of the group.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save

from secfpp.errors import ConfigError, DataError, Problem
from secfpp.images import SIZE, ImagesLike, as_array
from secfpp.storage import atomic_write, read_arrays

if TYPE_CHECKING:
    from secfpp.models.backbone import Backbone

FORMAT = "secfpp-prompt-3"
READABLE = ("secfpp-prompt-1", "secfpp-prompt-2", FORMAT)
Prior = Literal["own", "uniform"]
Level = Literal["personal", "domain"]
_NUMBERS = ("seed", "rounds", "image_size")
_TEXTS = ("client", "domain", "method", "backbone", "backbone_digest", "class_template")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ClientPrompt:
    """What one client predicts with.

    Attributes:
        prompt: the personal context vectors, float32 [n_ctx, text_dim].
        classes: names of the classes, in the order of scores.
        backbone: name of the model it was learned for, as `load_backbone` takes it.
        backbone_digest: hash of that model's content.
        domain_prompt: those of the client's domain, of the same shape, if the method predicts on two levels:
            `secfpp.models.scoring.redistributed` says how.
        familiar: with a domain prompt, the classes among which the personal one decides, bool [n_cls].
        trust: with a domain prompt, the weight of the personal one among them, 0..1.
        log_prior: log of the client's smoothed class frequencies, float32 [n_cls], if the method predicts with them.
        client: whose it is.
        domain: the client's domain, if known.
        method: that it was learned by.
        seed: of the training.
        rounds: of training.
        image_size: side in pixels at which image files are read, the one of the training images.
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
    log_prior: np.ndarray | None = None
    client: str = ""
    domain: str = ""
    method: str = ""
    seed: int = 0
    rounds: int = 0
    image_size: int = SIZE
    class_template: str = "{}"

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        problems = _array_problems("prompt", self.prompt, "[n_ctx, text_dim]", 2)
        problems += self._level_problems()
        if self.log_prior is not None:
            problems += _array_problems("log_prior", self.log_prior, f"[{len(self.classes)}]", 1)
            if not problems and len(self.log_prior) != len(self.classes):
                problems.append(f"log_prior has {len(self.log_prior)} values for {len(self.classes)} classes")
        if len(self.classes) < 2 or not all(map(str.strip, self.classes)):
            problems.append(f"classes {self.classes!r} are not two names or more")
        if len(set(self.classes)) < len(self.classes):
            problems.append("a class is named twice")
        if not self.backbone or not self.backbone_digest:
            problems.append("backbone and backbone_digest must name the model")
        if self.image_size < 1 or self.class_template.count("{}") != 1:
            problems.append(f"image_size {self.image_size} or class_template {self.class_template!r} makes no sense")
        if problems:
            raise DataError("; ".join(problems))
        for name, array in self._arrays().items():
            own = np.array(array, dtype=bool if name == "familiar" else np.float32, order="C")
            own.setflags(write=False)
            object.__setattr__(self, name, own)
        object.__setattr__(self, "trust", float(self.trust))

    def __repr__(self) -> str:
        n_ctx, text_dim = self.prompt.shape
        levels = "" if self.domain_prompt is None else " on two levels"
        prior = "" if self.log_prior is None else ", with log_prior"
        return (
            f"ClientPrompt(client={self.client!r}, method={self.method!r}, backbone={self.backbone!r}, "
            f"{len(self.classes)} classes, {n_ctx} x {text_dim}{levels}{prior})"
        )

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all, readable by its owner only; an existing one is replaced."""
        atomic_write(Path(path), self.to_bytes())

    def to_bytes(self) -> bytes:
        """The content of the file."""
        about = {"format": FORMAT, "classes": json.dumps(self.classes)}
        about |= {name: getattr(self, name) for name in _TEXTS}
        about |= {name: str(getattr(self, name)) for name in _NUMBERS}
        about |= {} if self.domain_prompt is None else {"trust": repr(self.trust)}
        return save(self._arrays(), metadata=about)

    def one_level(self, level: Level = "personal") -> ClientPrompt:
        """The personal or the domain prompt alone, which predicts less well than both.

        The personal one on classes that the client has few images of, or none; the domain one on those that it has.

        Raises:
            ConfigError: there is no such level.
        """
        kept = {"personal": self.prompt, "domain": self.domain_prompt}.get(level)
        if kept is None:
            levels = "personal" if self.domain_prompt is None else "personal or domain"
            raise ConfigError([Problem("level", level, f"{levels}: this prompt has no other level")])
        return replace(self, prompt=kept, domain_prompt=None, familiar=None, trust=1.0)

    def without_prior(self) -> ClientPrompt:
        """The same without what tells the client's classes, for giving it away.

        Class frequencies and familiar classes are left out. Two levels cannot be used without the latter, so that
        of those the personal prompt remains; ``one_level("domain").without_prior()`` keeps the other one.
        """
        return replace(self.one_level(), log_prior=None)

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
        import torch

        from secfpp.models.scoring import cosine_logits, redistributed

        if prior not in (None, "own", "uniform"):
            raise ConfigError([Problem("prior", prior, "own or uniform")])
        if prior == "own" and self.log_prior is None:
            raise ConfigError([Problem("prior", prior, "this prompt holds no class frequencies: take uniform")])
        pixels = as_array(images, self.image_size)
        model = self.model(backbone)
        levels: tuple[Level, ...] = ("personal",) if self.domain_prompt is None else ("personal", "domain")
        texts = torch.from_numpy(np.stack([self.class_features(model, level) for level in levels])).to(model.device)
        logits = cosine_logits(model.features(pixels), texts, model.logit_scale)
        if self.familiar is not None:
            familiar = torch.tensor(self.familiar, device=model.device)
            logits = redistributed(logits[1:], logits[:1], familiar[None], self.trust)
        if self.log_prior is not None and prior != "uniform":
            logits = logits + torch.tensor(self.log_prior, device=model.device)
        probabilities: np.ndarray = logits[0].softmax(1).cpu().numpy()
        return probabilities

    def class_features(self, backbone: Backbone | str | None = None, level: Level = "personal") -> np.ndarray:
        """What image features are compared with on one level, float32 [n_cls, projection], unit length.

        Raises:
            ConfigError: no such model or level, or class names that the model refuses.
            DataError: another model than the prompt was learned for.
        """
        import torch

        prompt, model = self.one_level(level).prompt, self.model(backbone)
        names = [self.class_template.replace("{}", name) for name in self.classes]
        with torch.no_grad():
            stack = torch.tensor(prompt, device=model.device)[None]
            encoded = model.class_features(stack, model.class_tokens(names, len(prompt)))
        features: np.ndarray = encoded[0].float().cpu().numpy()
        return features

    def model(self, backbone: Backbone | str | None = None) -> Backbone:
        """The model this prompt was learned for: `backbone`, loaded if it is a name, and checked.

        Raises:
            ConfigError: no such model.
            DataError: another model; names both.
        """
        from secfpp.models.backbone import load_backbone

        loaded = load_backbone(backbone or self.backbone) if backbone is None or isinstance(backbone, str) else backbone
        if loaded.spec.digest != self.backbone_digest:
            raise DataError(
                f"the prompt was learned for the model {self.backbone!r} (content {self.backbone_digest[:12]}), but "
                f"{loaded.spec.name!r} is another one (content {loaded.spec.digest[:12]}): give the model it was "
                "learned for as backbone"
            )
        return loaded

    def _arrays(self) -> dict[str, np.ndarray]:
        """The arrays that are there, by name."""
        known = {name: getattr(self, name) for name in ("prompt", "domain_prompt", "familiar", "log_prior")}
        return {name: array for name, array in known.items() if array is not None}

    def _level_problems(self) -> list[str]:
        """What is wrong with `domain_prompt`, `familiar` and `trust`."""
        domain, familiar = self.domain_prompt, self.familiar
        if (domain is None) != (familiar is None):
            return ["domain_prompt and familiar belong together: give both or neither"]
        if domain is None:
            return [] if self.trust == 1 else [f"trust {self.trust} has no meaning without a domain_prompt"]
        problems = _array_problems("domain_prompt", domain, "[n_ctx, text_dim]", 2)
        if np.shape(domain) != np.shape(self.prompt):
            problems.append(f"domain_prompt has shape {np.shape(domain)}, but prompt {np.shape(self.prompt)}")
        if not 0 <= self.trust <= 1:
            problems.append(f"trust {self.trust} is not in 0..1")
        if not isinstance(familiar, np.ndarray) or familiar.shape != (len(self.classes),) or familiar.dtype != bool:
            problems.append(f"familiar is {familiar!r} instead of a bool for each of {len(self.classes)} classes")
        return problems


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
    if about.get("format") not in READABLE:
        raise DataError(f"not a prompt (format {about.get('format')!r}, not one of {', '.join(READABLE)})")
    if "prompt" not in arrays or not {"classes", "backbone", "backbone_digest"} <= set(about):
        raise DataError("it lacks the prompt, its classes or its model")
    classes = json.loads(about["classes"])
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise DataError("its classes are no list of names")
    if "domain_prompt" in arrays and "trust" not in about:
        raise DataError("it has two levels and does not say how far to trust the personal one")
    return ClientPrompt(
        prompt=arrays["prompt"],
        domain_prompt=arrays.get("domain_prompt"),
        familiar=arrays.get("familiar"),
        trust=float(about.get("trust", 1)),
        log_prior=arrays.get("log_prior"),
        classes=tuple(classes),
        seed=int(about.get("seed", 0)),
        rounds=int(about.get("rounds", 0)),
        image_size=int(about.get("image_size", SIZE)),
        backbone=about["backbone"],
        backbone_digest=about["backbone_digest"],
        client=about.get("client", ""),
        domain=about.get("domain", ""),
        method=about.get("method", ""),
        class_template=about.get("class_template", "{}"),
    )


def _array_problems(name: str, array: object, shape: str, ndim: int) -> list[str]:
    if not isinstance(array, np.ndarray) or array.ndim != ndim or 0 in array.shape:
        return [f"{name} has shape {getattr(array, 'shape', None)} instead of {shape}"]
    if not np.issubdtype(array.dtype, np.floating):
        return [f"{name} holds {array.dtype} instead of float32"]
    if not np.isfinite(array).all():
        return [f"{name} holds values that are not finite"]
    return []
