"""A client's own class means of image features beside the start prompt: nothing sent, nothing trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from secfpp.algorithms.visual import ClassMeans
from secfpp.algorithms.zero_shot import ZeroShot


@dataclass(frozen=True, kw_only=True)
class ClassMeansLocal(ZeroShot):
    """The start prompt and the client's own class means, weighed on its validation images: learning alone."""

    name: ClassVar[str] = "class_means_local"

    class_means: ClassMeans = field(default_factory=lambda: ClassMeans(levels="own"))
