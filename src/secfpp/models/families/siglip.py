"""SigLIP (Zhai et al., arXiv 2303.15343) and SigLIP 2 of one image size (arXiv 2502.14786) in Hugging Face format.

Both say ``siglip`` in ``config.json``. They were trained on lower-case texts that fill all places of the text tower.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from secfpp.models.families.base import Checkpoint, Layout, Towers
from secfpp.models.families.hugging_face import HuggingFaceFamily, image_tokens, moved
from secfpp.models.text_bidirectional import BidirectionalTextEncoder


class Siglip(HuggingFaceFamily):
    """``SiglipModel``."""

    name = "siglip"
    model_type = "siglip"
    model_class = "SiglipModel"
    tokenizer_files: ClassVar[tuple[tuple[str, ...], ...]] = (("tokenizer.json",), ("spiece.model",))

    def disagreement(self, checkpoint: Checkpoint) -> str:
        """No end or padding token, an image tower without its pooling, or towers that cannot be compared."""
        tokenizer, config = checkpoint.tokenizer, checkpoint.model.config
        if tokenizer.eos_token_id is None or tokenizer.pad_token_id is None:
            return "its tokenizer has no end or no padding token"
        if not getattr(config.vision_config, "vision_use_head", True):
            return "its image tower has no pooling head (vision_use_head): give the whole model"
        if config.text_config.projection_size != config.vision_config.hidden_size:
            return (
                f"its texts have {config.text_config.projection_size} numbers and its images "
                f"{config.vision_config.hidden_size}, so they cannot be compared"
            )
        return ""

    def layout(self, checkpoint: Checkpoint) -> Layout:
        """Context, name, end, and padding to the last place, where the feature is read."""
        tokenizer = checkpoint.tokenizer
        return Layout(
            places=checkpoint.model.config.text_config.max_position_embeddings,
            start=(),
            end=int(tokenizer.eos_token_id),
            pad=int(tokenizer.pad_token_id),
            lower=True,
            spaced=True,
        )

    def towers(self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> Towers:
        """Both towers; patches are those that the pooling head sees, which have the width of features."""
        layout, config = self.layout(checkpoint), checkpoint.model.config
        scale, bias = float(checkpoint.model.logit_scale.exp()), float(checkpoint.model.logit_bias)
        model = moved(checkpoint, device, dtype)

        def image(pixels: Tensor) -> Tensor:
            features: Tensor = model.vision_model(pixel_values=pixels).pooler_output
            return features

        def patches(pixels: Tensor) -> Tensor:
            hidden: Tensor = model.vision_model(pixel_values=pixels).last_hidden_state
            return hidden

        return Towers(
            image=image,
            patches=patches,
            text=BidirectionalTextEncoder(model, layout.pad),
            layout=layout,
            text_dim=config.text_config.hidden_size,
            projection=config.text_config.projection_size,
            image_size=config.vision_config.image_size,
            image_tokens=image_tokens(checkpoint),
            logit_scale=scale,
            logit_bias=bias,
        )
