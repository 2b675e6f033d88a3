"""The test suite stays offline, keeps to one thread per library, and leaves the user's cache and ledgers alone."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Features, rendered images and privacy ledgers are kept for this run of the suite only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECFPP_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("SECFPP_LEDGERS", str(tmp_path_factory.mktemp("ledgers")))
        yield
