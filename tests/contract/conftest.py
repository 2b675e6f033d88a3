import pytest

from secfpp.data.icons import IconSettings, load_icons
from secfpp.models.backbone import load_backbone


@pytest.fixture(scope="session")
def backbone():
    """The embedded model."""
    return load_backbone("mini", device="cpu")


@pytest.fixture(scope="session")
def dataset():
    """Two domains with four clients each."""
    return load_icons(
        IconSettings(shots=6, validation_shots=2, test_shots=2, clients_per_domain=4, domains=("sketch", "pixel")), 0
    )
