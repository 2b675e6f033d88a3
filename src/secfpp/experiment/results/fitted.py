"""A fitted `secfpp.Personalizer` in one file: safetensors with JSON, so that reading it runs no code.

It holds what every client predicts with, and so all that prompt files keep private: mode 0600. The model is named, with
a hash of its content, and not held.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from secfpp.errors import DataError
from secfpp.experiment.results.result_record import result_from, result_record
from secfpp.experiment.spec.schema import plain
from secfpp.models.novelty import Novelty
from secfpp.runtime.trainer import RunResult
from secfpp.storage import read_record, write_record

_FORMAT = "secfpp-personalizer-1"
_MEAN, _SPREAD = "image_mean.", "image_spread."


@dataclass(frozen=True)
class Fitted:
    """What training gave, and from what.

    Attributes:
        parameters: of the `Personalizer`, with tables for what has settings of its own.
        result: of the training.
        classes: names of the classes.
        image_size: side in pixels at which image files are read.
        backbone: name of the model.
        digest: hash of its content.
        known: what clients' images are like, by client.
        grey_window: which grey values of more than 8 bits were black and white.
    """

    parameters: Mapping[str, Any]
    result: RunResult
    classes: tuple[str, ...]
    image_size: int
    backbone: str
    digest: str
    known: Mapping[str, Novelty]
    grey_window: tuple[float, float] | None = None


def save_fitted(path: Path, fitted: Fitted) -> None:
    """Write the file, whole or not at all; an existing one is replaced."""
    arrays, told = result_record(fitted.result)
    arrays |= {f"{_MEAN}{client}": known.mean for client, known in fitted.known.items()}
    arrays |= {f"{_SPREAD}{client}": known.spread for client, known in fitted.known.items()}
    about = {
        "format": _FORMAT,
        "parameters": json.loads(json.dumps(fitted.parameters, default=plain)),
        "method": fitted.result.method,
        "seed": fitted.result.seed,
        "classes": list(fitted.classes),
        "image_size": fitted.image_size,
        "backbone": fitted.backbone,
        "digest": fitted.digest,
        "thresholds": {client: known.threshold for client, known in fitted.known.items()},
        "grey_window": fitted.grey_window,
        "result": told,
    }
    write_record(path, arrays, about)


def load_fitted(path: Path) -> Fitted:
    """What `save_fitted` wrote.

    Raises:
        DataError: no such file, a damaged one, or another kind of file.
    """
    try:
        arrays, about = read_record(path, _FORMAT)
        return Fitted(
            parameters=about["parameters"],
            result=result_from(about["method"], about["seed"], about["result"], arrays),
            classes=tuple(about["classes"]),
            image_size=about["image_size"],
            backbone=about["backbone"],
            digest=about["digest"],
            known={
                client: Novelty(arrays[f"{_MEAN}{client}"], arrays[f"{_SPREAD}{client}"], threshold)
                for client, threshold in about["thresholds"].items()
            },
            grey_window=None if about["grey_window"] is None else tuple(about["grey_window"]),
        )
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; give a file that Personalizer.save wrote") from error
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: not a saved Personalizer, or a damaged one ({type(error).__name__}: {error}); give a file that "
            "Personalizer.save wrote (a client's prompt alone is read by load_prompt)"
        ) from error
