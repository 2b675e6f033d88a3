from __future__ import annotations

import pytest
import torch

from secfpp.data.icons import IconSettings, load_icons
from secfpp.models.backbone import load_backbone


@pytest.fixture(scope="module")
def backbone():
    """The embedded model on one thread."""
    before = torch.get_num_threads()
    yield load_backbone("mini", device="cpu", threads=1)
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def dataset():
    """Two domains with four clients each."""
    settings = IconSettings(
        shots=6, validation_shots=2, test_shots=2, clients_per_domain=4, domains=("sketch", "pixel")
    )
    return load_icons(settings, 0)
