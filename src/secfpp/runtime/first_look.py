"""What a model makes of a data set untrained: the check that class names and labels agree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from secfpp.algorithms.zero_shot import ZeroShot
from secfpp.data.federated import FederatedDataset
from secfpp.models.backbone import Backbone
from secfpp.models.scoring import class_accuracies, cosine_logits
from secfpp.seeding import derive


@dataclass(frozen=True)
class FirstLook:
    """Accuracies of the hand-written prompt.

    Attributes:
        accuracy: domain -> mean accuracy over its classes, in percent.
        images: test images that were looked at, by domain.
        chance: accuracy of guessing, in percent.
    """

    accuracy: Mapping[str, float]
    images: Mapping[str, int]
    chance: float

    def near_chance(self) -> list[str]:
        """Domains whose accuracy is within three standard errors of guessing, or below."""
        share = self.chance / 100
        return [
            domain
            for domain, accuracy in self.accuracy.items()
            if accuracy <= self.chance + 300 * math.sqrt(share * (1 - share) / self.images[domain])
        ]


def first_look(dataset: FederatedDataset, backbone: Backbone, most: int = 0, seed: int = 0) -> FirstLook:
    """The zero-shot accuracy on test images, as the method ``zero_shot`` measures it on a client's own domain.

    Args:
        dataset: the data.
        backbone: the model.
        most: test images of a domain that are looked at, drawn at random; 0 is all.
        seed: of the draw.

    Raises:
        ConfigError: class names that the model refuses.
    """
    start = ZeroShot().prompt.initial(backbone, dataset.template, derive(seed, "start"))
    tokens = backbone.class_tokens(dataset.classes, len(start))
    with torch.no_grad():
        texts = backbone.class_features(torch.from_numpy(start)[None].to(backbone.device), tokens)[0]
    accuracy, images = {}, {}
    for domain, split in dataset.test.items():
        rows = np.arange(len(split))
        if most and len(rows) > most:
            rows = np.sort(derive(seed, "first look", domain).numpy().permutation(rows)[:most])
        features = backbone.features(split.images[rows])
        logits = cosine_logits(features, texts, backbone.logit_scale)[None]
        labels = torch.from_numpy(split.labels[rows]).to(backbone.device)
        accuracy[domain] = 100 * float(class_accuracies(logits, labels, len(dataset.classes)).nanmean())
        images[domain] = len(rows)
    return FirstLook(accuracy, images, 100 / len(dataset.classes))
