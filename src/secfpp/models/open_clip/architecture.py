"""What ``open_clip_config.json`` says of a model: its shape if both towers can be run here, or why they cannot.

Field names and their defaults are those of open_clip's ``CLIPVisionCfg`` and ``CLIPTextCfg`` (version 3.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HUB = "such as laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
ATTENTION = ("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc")
NO_MATTER = (
    "patch_dropout", "output_tokens", "pad_id", "eos_id", "hf_tokenizer_name", "tokenizer_mode", "hf_model_pretrained",
    "hf_proj_type", "hf_pooler_type", "timm_model_pretrained", "timm_pool", "timm_proj",
    "timm_proj_bias", "timm_drop", "timm_drop_path", "attn_pooler_queries", "attn_pooler_heads", "pos_embed_type",
)  # fmt: skip
"""Of training, of towers that are refused by another field, or found in the weights."""
READ = (
    "width", "layers", "heads", "head_width", "mlp_ratio", "patch_size", "image_size", "ls_init_value", "no_ln_pre",
    "final_ln_after_pool", "pool_type", "act_kwargs", "norm_kwargs", "context_length", "vocab_size", "block_type",
    "attentional_pool", "timm_model_name", "hf_model_name", "embed_cls", "no_causal_mask", "proj_bias", "proj_type",
    "tokenizer_kwargs",
)  # fmt: skip
TANH = {"approximate": "tanh"}


@dataclass(frozen=True)
class Transformer:
    """The blocks of a tower; `scaled` blocks multiply what they add by a factor for each channel (LayerScale)."""

    width: int
    layers: int
    heads: int
    hidden: int
    activation: str
    eps: float
    scaled: bool

    def fields(self) -> dict[str, Any]:
        """The same as transformers' configurations call it."""
        return {
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": self.hidden,
            "hidden_act": self.activation,
            "layer_norm_eps": self.eps,
        }


@dataclass(frozen=True)
class ResNet:
    """CLIP's ResNet (Radford et al., arXiv 2103.00020, section 2.4): blocks in each stage, width after the stem."""

    width: int
    stages: tuple[int, ...]
    heads: int

    def fields(self) -> dict[str, Any]:
        """What tells it from another, as transformers' configurations call such things."""
        return {
            "hidden_size": self.width,
            "num_hidden_layers": list(self.stages),
            "num_attention_heads": self.heads,
        }


@dataclass(frozen=True)
class Architecture:
    """The shape of both towers.

    Attributes:
        projection: width of features.
        text: a causal transformer.
        places: tokens that it reads.
        vocabulary: tokens that it knows.
        end: the token at which a feature is read; None where that is the largest in a text.
        image: a vision transformer or a ResNet.
        image_size: pixels on each side.
        patch_size: of a vision transformer, pixels on each side.
        norm_first: whether patches are normalised before the first block.
        averaged: whether an image's feature is the mean of its patches, not that of the class token.
        norm_last: whether the mean is normalised, not each patch.
    """

    projection: int
    text: Transformer
    places: int
    vocabulary: int
    end: int | None
    image: Transformer | ResNet
    image_size: int
    patch_size: int = 0
    norm_first: bool = True
    averaged: bool = False
    norm_last: bool = False

    @property
    def image_tokens(self) -> int:
        """How many tokens an image is, by which batches are cut; of a ResNet, its places after the second stage."""
        step = 8 if isinstance(self.image, ResNet) else self.patch_size
        return (self.image_size // step) ** 2 + 1

    @property
    def plain(self) -> bool:
        """Whether it is one of OpenAI's vision transformers, which transformers' ``CLIPModel`` is."""
        return isinstance(self.image, Transformer) and self.norm_first and not self.averaged and self.end is None


def refusal(model: Mapping[str, Any]) -> str:
    """Why a model of this ``model_cfg`` cannot be run here, and what to give instead; empty if it can."""
    text, vision = _tower(model, "text_cfg"), _tower(model, "vision_cfg")
    if "multimodal_cfg" in model or text.get("embed_cls") or vision.get("attentional_pool"):
        return f"it is a CoCa, a model that also writes captions: give one that compares alone, {HUB}"
    timm = str(vision.get("timm_model_name") or "")
    if "siglip" in timm and not text.get("hf_model_name"):
        return (
            "it is a SigLIP, whose image tower is timm's: give the same from Google in Hugging Face format, such as "
            "google/siglip-base-patch16-224 or google/siglip2-base-patch16-224"
        )
    if timm:
        return (
            f"its image tower is {timm!r} of timm, which needs torchvision: give one whose image tower is open_clip's "
            f"own vision transformer or ResNet, {HUB}"
        )
    if name := text.get("hf_model_name"):
        return f"its text tower is {name!r} of Hugging Face, not a CLIP's: give one with a causal text tower, {HUB}"
    if text.get("no_causal_mask"):
        return f"its text tower is not causal (no_causal_mask): give one with a causal text tower, {HUB}"
    if text.get("pool_type", "argmax") not in ("argmax", "eos"):
        return f"its text features are read at the {text['pool_type']} place (pool_type), not at the end token"
    if text.get("proj_bias") or text.get("proj_type", "linear") != "linear":
        return "its text features are not projected by a matrix alone (proj_bias, proj_type)"
    if vision.get("pool_type", "tok") not in ("tok", "avg"):
        return f"its image features are pooled in a way that is not known ({vision['pool_type']!r}): tok and avg are"
    for where, tower in (("text_cfg", text), ("vision_cfg", vision)):
        if reason := _unusual(where, tower):
            return reason
    return ""


def architecture(model: Mapping[str, Any]) -> Architecture:
    """The shape that a ``model_cfg`` without a `refusal` describes."""
    text, vision = _tower(model, "text_cfg"), _tower(model, "vision_cfg")
    width, layers = int(vision.get("width", 768)), vision.get("layers", 12)
    head_width, image_size = int(vision.get("head_width", 64)), vision.get("image_size", 224)
    quick = bool(model.get("quick_gelu"))
    image: Transformer | ResNet
    if isinstance(layers, list):
        image = ResNet(width, tuple(map(int, layers)), width * 32 // head_width)
    else:
        image = _transformer(vision, width, width // head_width, quick)
    text_width = int(text.get("width", 512))
    return Architecture(
        projection=int(model["embed_dim"]),
        text=_transformer(text, text_width, int(text.get("heads", 8)), quick),
        places=int(text.get("context_length", 77)),
        vocabulary=int(text.get("vocab_size", 49408)),
        end=int(text.get("eos_id", 2)) if text.get("pool_type") == "eos" else None,
        image=image,
        image_size=int(_side(image_size)),
        patch_size=0 if isinstance(image, ResNet) else int(_side(vision.get("patch_size", 16))),
        norm_first=not vision.get("no_ln_pre"),
        averaged=vision.get("pool_type") == "avg",
        norm_last=bool(vision.get("final_ln_after_pool")),
    )


def _tower(model: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    tower = model.get(name, {})
    return tower if isinstance(tower, Mapping) else {}


def _unusual(where: str, tower: Mapping[str, Any]) -> str:
    """Why blocks of this tower are none of CLIP's; empty if they are."""
    if special := [key for key in ATTENTION if tower.get(key)]:
        return f"its attention is not CLIP's ({where}.{special[0]}): give one without, {HUB}"
    if settings := tower.get("tokenizer_kwargs"):
        return f"its tokenizer is used in a way that is not known here ({where}.tokenizer_kwargs = {settings})"
    if tower.get("block_type") not in (None, "default"):
        return f"its blocks are not CLIP's ({where}.block_type = {tower['block_type']!r}): give one without, {HUB}"
    if strange := [key for key in tower if key not in (*NO_MATTER, *READ, *ATTENTION)]:
        return f"its configuration says {where}.{strange[0]}, which is not known here, so it may be another model"
    if tower.get("act_kwargs") not in (None, {}, TANH):
        return f"its activation is not known here ({where}.act_kwargs = {tower['act_kwargs']})"
    if set(tower.get("norm_kwargs") or {}) - {"eps"}:
        return f"its norms are not known here ({where}.norm_kwargs = {tower['norm_kwargs']})"
    for key in ("image_size", "patch_size"):
        if isinstance(tower.get(key), list) and len(set(tower[key])) > 1:
            return f"its {where}.{key} is {tower[key]}: only squares are read"
    return ""


def _transformer(tower: Mapping[str, Any], width: int, heads: int, quick: bool) -> Transformer:
    gelu = "gelu_pytorch_tanh" if tower.get("act_kwargs") == TANH else "gelu"
    return Transformer(
        width=width,
        layers=int(tower.get("layers", 12)),
        heads=heads,
        hidden=int(width * float(tower.get("mlp_ratio", 4.0))),
        activation="quick_gelu" if quick else gelu,
        eps=float((tower.get("norm_kwargs") or {}).get("eps", 1e-5)),
        scaled=tower.get("ls_init_value") is not None,
    )


def _side(size: Any) -> Any:
    """The edge of a square that may be written as a number or twice."""
    return size[0] if isinstance(size, list) else size
