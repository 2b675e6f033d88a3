"""CLIP (Radford et al., arXiv 2103.00020) in Hugging Face format.

Source of the end-token conventions: ``transformers`` reads a text's feature at the largest id where
the configuration says ``eos_token_id = 2`` (checkpoints from before its pull request 24773), else at
the first end token.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from secfpp.models.families.base import Checkpoint, Layout, Towers
from secfpp.models.families.hugging_face import HuggingFaceFamily, image_tokens, moved
from secfpp.models.text_prefix import PrefixTextEncoder

LEGACY_END = 2


class Clip(HuggingFaceFamily):
    """``CLIPModel``."""

    name = "clip"
    model_type = "clip"
    model_class = "CLIPModel"
    tokenizer_files: ClassVar[tuple[tuple[str, ...], ...]] = (("tokenizer.json",), ("vocab.json", "merges.txt"))

    def legacy_end(self, checkpoint: Checkpoint) -> bool:
        """Whether a text's feature is read at the largest id, not at the first end token."""
        return bool(checkpoint.model.config.text_config.eos_token_id == LEGACY_END)

    def disagreement(self, checkpoint: Checkpoint) -> str:
        """A start or end token that is missing, or an end token that model and tokenizer do not share."""
        tokenizer, config = checkpoint.tokenizer, checkpoint.model.config.text_config
        if tokenizer.bos_token_id is None or tokenizer.eos_token_id is None:
            return "its tokenizer has no start or no end token"
        if not self.legacy_end(checkpoint) and config.eos_token_id != tokenizer.eos_token_id:
            return (
                f"the model reads features at token {config.eos_token_id} (eos_token_id in config.json), "
                f"but the tokenizer ends texts with {tokenizer.eos_token_id}; correct one of them"
            )
        return ""

    def layout(self, checkpoint: Checkpoint) -> Layout:
        """Start, context, name, end; what follows the end is never read."""
        tokenizer, end = checkpoint.tokenizer, int(checkpoint.tokenizer.eos_token_id)
        return Layout(
            places=checkpoint.model.config.text_config.max_position_embeddings,
            start=(int(tokenizer.bos_token_id),),
            end=end,
            pad=end,
            read_at_largest=self.legacy_end(checkpoint),
        )

    def towers(self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> Towers:
        """Both towers; patches are projected as the token of the whole image is."""
        layout, config = self.layout(checkpoint), checkpoint.model.config
        scale = float(checkpoint.model.logit_scale.exp())
        model = moved(checkpoint, device, dtype)

        def image(pixels: Tensor) -> Tensor:
            features: Tensor = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
            return features

        def patches(pixels: Tensor) -> Tensor:
            hidden = model.vision_model(pixel_values=pixels).last_hidden_state[:, 1:]
            features: Tensor = model.visual_projection(model.vision_model.post_layernorm(hidden))
            return features

        return Towers(
            image=image,
            patches=patches,
            text=PrefixTextEncoder(model, *layout.start),
            layout=layout,
            text_dim=config.text_config.hidden_size,
            projection=config.projection_dim,
            image_size=config.vision_config.image_size,
            image_tokens=image_tokens(checkpoint),
            logit_scale=scale,
        )
