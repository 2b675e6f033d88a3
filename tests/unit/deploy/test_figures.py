"""Sites' accuracies on average: the server is told the mean, and nobody a single one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secfpp.algorithms.secfpp import SecFPP
from secfpp.data.folders import FolderSettings, load_folder
from secfpp.deploy.agreed import Agreed
from secfpp.deploy.server_process import run_at_sites
from secfpp.deploy.site_folder import SiteFolder
from secfpp.errors import ConfigError
from secfpp.models.backbone import Backbone, load_backbone
from support.sites import FAST, NAMES, agreed_on, make_sites, pictures, roster_of, sites_here


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("mini", device="cpu")


def prepared(folder: Path, backbone: Backbone, allowed: bool = True) -> tuple[dict[str, SiteFolder], Agreed, object]:
    data = pictures(folder / "data")
    sites = make_sites(folder / "sites", data)
    roster = roster_of(sites)
    agreed = replace(agreed_on(roster, backbone, FAST, rounds=1), figures="mean")
    whole = load_folder(FolderSettings(root=str(data), size=agreed.image_size), agreed.seed)
    for name, site in list(sites.items()):
        text = site.file.text.replace("average_metrics = false", f"average_metrics = {str(allowed).lower()}")
        (site.path / "site.toml").write_text(text)
        sites[name] = SiteFolder(site.path)
        sites[name].know(whole, backbone, agreed)
        sites[name].agree(agreed, roster)
    return sites, agreed, whole


def test_the_mean_is_that_of_all_sites_and_no_message_shows_a_single_one(
    tmp_path: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"anna": 51.25, "ben": 93.75, "cleo": 77.5, "dora": 60.0}
    written = SiteFolder.write_prompt

    def as_accurate(self: SiteFolder, *given: Any) -> dict[str, Any]:
        return {**written(self, *given), "test": own[self.name], "validation": own[self.name] / 2}

    monkeypatch.setattr(SiteFolder, "write_prompt", as_accurate)  # sites with so few pictures are all perfect
    sites, agreed, whole = prepared(tmp_path, backbone)
    passed: list[bytes] = []
    with sites_here(sites, agreed, whole, backbone) as here:  # type: ignore[arg-type]
        carry = here.exchange

        def listening(messages: dict[str, bytes], deadline: float) -> dict[str, bytes]:
            replies = dict(carry(messages, deadline))
            passed.extend(replies.values())
            return replies

        here.exchange = listening  # type: ignore[assignment, method-assign]
        served = run_at_sites(here, agreed, tmp_path / "server")
    mean = np.mean(list(own.values())) / 100
    assert served.figures["sites"] == list(NAMES)
    assert served.figures["test"] == pytest.approx(mean, abs=1e-6)
    assert served.figures["validation"] == pytest.approx(mean / 2, abs=1e-6)
    assert not any(served.told.values())
    assert any(np.float32(served.figures["test"]).tobytes() in data for data in passed)
    for value in own.values():
        assert not any(np.float32(value / 100).tobytes() in data for data in passed)
        assert not any(np.float64(value / 100).tobytes() in data for data in passed)


def test_a_site_that_does_not_allow_it_does_not_agree(tmp_path: Path, backbone: Backbone) -> None:
    with pytest.raises(ConfigError, match=r"figures = 'mean': none \(site\.toml line \d+: average_metrics = false\)"):
        prepared(tmp_path, backbone, allowed=False)


def test_no_mean_where_noise_is_promised_or_nothing_is_averaged(tmp_path: Path, backbone: Backbone) -> None:
    sites = make_sites(tmp_path / "sites", pictures(tmp_path / "data"))
    private = SecFPP(privacy=replace(SecFPP().privacy, mechanism="class_means"))
    with pytest.raises(ConfigError, match="figures = 'mean': none: a mean of accuracies has no noise"):
        replace(agreed_on(roster_of(sites), backbone, private), figures="mean")
