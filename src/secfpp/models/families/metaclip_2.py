"""MetaCLIP 2 (Chuang et al., arXiv 2507.22062) in Hugging Face format: CLIP's towers, words of many languages."""

from __future__ import annotations

from secfpp.models.families.base import Checkpoint
from secfpp.models.families.clip import Clip


class MetaClip2(Clip):
    """``MetaClip2Model``. Its end token has the id 2, which in a CLIP would mean that it is not looked for."""

    name = "metaclip_2"
    model_type = "metaclip_2"
    model_class = "MetaClip2Model"
    tokenizer_files = (("tokenizer.json",), ("sentencepiece.bpe.model",))

    def legacy_end(self, checkpoint: Checkpoint) -> bool:
        """Never: features are read at the first end token, whatever its id."""
        return False
