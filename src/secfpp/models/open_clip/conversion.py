"""The weights of open_clip's towers under the names that transformers' ``CLIPModel`` has for them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from secfpp.models.open_clip.architecture import Architecture, Transformer
from secfpp.models.open_clip.weights import is_weight

BLOCK = {
    "ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn.out_proj": "self_attn.out_proj", "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}  # fmt: skip
SCALED = {"ls_1": "attn.out_proj", "ls_2": "mlp.c_proj"}
"""The layer whose result each factor of a block is for."""


class Renamed:
    """Weights of one model that are given new names, one after another.

    Attributes:
        named: the new names and their weights.
        missing: old names that the model should have.
        misshapen: why a weight is not of the model's shape; empty if none is.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self._left = dict(state)
        self.named: dict[str, Tensor] = {}
        self.missing: list[str] = []
        self.misshapen = ""

    @property
    def unexpected(self) -> list[str]:
        """Old names that nothing was made of."""
        return list(self._left)

    def take(self, old: str, shape: tuple[int, ...]) -> Tensor:
        """The weight called `old`, which is then done with; zeros where it is missing or of another shape."""
        weight = self._left.pop(old, None)
        if weight is None:
            self.missing.append(old)
        elif weight.shape != shape:
            found = list(weight.shape)
            self.misshapen = (
                self.misshapen or f"its weights {old!r} are {found}, but its configuration asks for {list(shape)}"
            )
        else:
            return weight
        return torch.zeros(shape)

    def rename(self, old: str, new: str, *shape: int, turned: bool = False) -> None:
        """Give the weight `old` of this shape the name `new`, rows for columns if `turned`."""
        weight = self.take(old, shape)
        self.named[new] = weight.T.contiguous() if turned else weight

    def norm(self, old: str, new: str, width: int) -> None:
        """Give the weight and bias of a norm a new name."""
        for part in ("weight", "bias"):
            self.rename(f"{old}.{part}", f"{new}.{part}", width)

    def blocks(self, old: str, new: str, shape: Transformer) -> None:
        """Give a tower's blocks new names; joined projections are split, factors (LayerScale) multiplied in."""
        d, hidden = shape.width, shape.hidden
        sizes = {"attn.out_proj": (d, d), "mlp.c_fc": (hidden, d), "mlp.c_proj": (d, hidden)}
        for layer in range(shape.layers):
            here, there = f"{old}.resblocks.{layer}.", f"{new}.layers.{layer}."
            for part, columns in (("weight", (d,)), ("bias", ())):
                joined = self.take(f"{here}attn.in_proj_{part}", (3 * d, *columns))
                for name, piece in zip("qkv", joined.split(d), strict=True):
                    self.named[f"{there}self_attn.{name}_proj.{part}"] = piece.contiguous()
            for name in ("ln_1", "ln_2"):
                self.norm(here + name, there + BLOCK[name], d)
            for name, size in sizes.items():
                self.rename(f"{here}{name}.weight", f"{there}{BLOCK[name]}.weight", *size)
                self.rename(f"{here}{name}.bias", f"{there}{BLOCK[name]}.bias", size[0])
            for name, scaled in SCALED.items() if shape.scaled else ():
                factor = self.take(f"{here}{name}.gamma", (d,))
                weight, bias = (f"{there}{BLOCK[scaled]}.{part}" for part in ("weight", "bias"))
                self.named |= {weight: self.named[weight] * factor[:, None], bias: self.named[bias] * factor}

    def text_tower(self, shape: Architecture) -> None:
        """Give the text tower and the temperature their names in ``CLIPModel``."""
        d, inside = shape.text.width, "text_model."
        self.rename("token_embedding.weight", f"{inside}embeddings.token_embedding.weight", shape.vocabulary, d)
        self.rename("positional_embedding", f"{inside}embeddings.position_embedding.weight", shape.places, d)
        self.blocks("transformer", f"{inside}encoder", shape.text)
        self.norm("ln_final", f"{inside}final_layer_norm", d)
        self.rename("text_projection", "text_projection.weight", d, shape.projection, turned=True)
        scale = self._left.get("logit_scale")
        if scale is not None:
            self._left["logit_scale"] = scale.squeeze()
        self.rename("logit_scale", "logit_scale")

    def vision_transformer(self, shape: Architecture, image: Transformer) -> None:
        """Give the image tower its names in ``CLIPModel``."""
        d, inside, side = image.width, "vision_model.", shape.image_size // shape.patch_size
        self.rename("visual.class_embedding", f"{inside}embeddings.class_embedding", d)
        patch = (d, 3, shape.patch_size, shape.patch_size)
        self.rename("visual.conv1.weight", f"{inside}embeddings.patch_embedding.weight", *patch)
        self.rename("visual.positional_embedding", f"{inside}embeddings.position_embedding.weight", side * side + 1, d)
        if shape.norm_first:
            self.norm("visual.ln_pre", f"{inside}pre_layrnorm", d)
        self.blocks("visual.transformer", f"{inside}encoder", image)
        self.norm("visual.ln_post", f"{inside}post_layernorm", d)
        self.rename("visual.proj", "visual_projection.weight", d, shape.projection, turned=True)

    def module(self, prefix: str, module: nn.Module) -> dict[str, Tensor]:
        """The weights that `module` has, called so behind `prefix`."""
        shapes = {name: tuple(weight.shape) for name, weight in module.state_dict().items() if is_weight(name)}
        return {name: self.take(prefix + name, shape) for name, shape in shapes.items()}

    def logit_bias(self) -> float:
        """What the model adds to every score, 0 if nothing."""
        bias = self._left.pop("logit_bias", None)
        return 0.0 if bias is None else float(bias)
