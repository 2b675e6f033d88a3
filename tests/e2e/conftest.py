from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from support.browser import NAMES, Browser, find_browser


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        missing = f"no browser: none of {', '.join(NAMES)} is installed and $CHROMIUM is not set"
        if os.environ.get("SECFPP_REQUIRE_BROWSER") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    started = Browser(program, tmp_path_factory.mktemp("browser"))
    yield started
    started.close()
