from __future__ import annotations

import stat
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from secfpp.algorithms.privacy import Privacy
from secfpp.algorithms.secfpp import SecFPP
from secfpp.crypto.roster import IdentityKey
from secfpp.data.federated import ClientData, FederatedDataset, Split
from secfpp.data.folders import FolderSettings, load_folder
from secfpp.data.icons import IconSettings, load_icons
from secfpp.data.tables import TableSettings, load_table
from secfpp.deploy.agreed import Agreed
from secfpp.deploy.site_data import alone, load_site_data
from secfpp.deploy.site_file import SiteData
from secfpp.deploy.site_folder import SiteFolder
from secfpp.errors import ConfigError, DataError, DataWarning
from secfpp.experiment.results.summary import novelties, prompt_files
from secfpp.models import compiling
from secfpp.models.backbone import Backbone, load_backbone
from secfpp.models.prompt_file import load_prompt
from secfpp.protocol.program import ClientState
from secfpp.runtime import trainer
from secfpp.runtime.contexts import make_contexts
from support.picture_folders import picture_tree
from support.sites import CLASSES, agreed_on, asked, make_sites, pictures, roster_of


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("mini", device="cpu")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return pictures(tmp_path / "data")


@pytest.fixture
def sites(tmp_path: Path, data: Path) -> dict[str, SiteFolder]:
    return make_sites(tmp_path / "sites", data)


@pytest.fixture
def agreed(sites: dict[str, SiteFolder], backbone: Backbone) -> Agreed:
    roster = roster_of(sites)
    made = agreed_on(roster, backbone)
    for site in sites.values():
        site.agree(made, roster)
    return made


def test_a_new_site_has_a_key_of_its_own_and_strict_limits(sites: dict[str, SiteFolder]) -> None:
    anna = sites["anna"]
    assert stat.S_IMODE((anna.path / "identity.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((anna.path / "site.toml").stat().st_mode) == 0o600
    assert anna.name == "anna" and anna.identity.public != sites["ben"].identity.public
    assert not anna.file.limits.in_the_clear and not anna.file.limits.tell_metrics
    with pytest.raises(ConfigError, match="a site already"):
        SiteFolder.create(anna.path, "anna", SiteData(folder="x"))


def test_a_site_reads_its_own_images_as_the_whole_federation_is_read(
    sites: dict[str, SiteFolder], data: Path, agreed: Agreed
) -> None:
    whole = load_folder(FolderSettings(root=str(data), size=16), agreed.seed)
    for client in whole.clients:
        own = sites[client.name].data(agreed)
        assert own.classes == whole.classes and own.clients[0].domain == client.name
        for mine, theirs in [
            (own.clients[0].train, client.train),
            (own.clients[0].validation, client.validation),
            (own.test[client.name], whole.test[client.name]),
        ]:
            np.testing.assert_array_equal(mine.images, theirs.images)
            np.testing.assert_array_equal(mine.labels, theirs.labels)


def test_folders_that_are_split_already_stay_so(tmp_path: Path) -> None:
    picture_tree(tmp_path / "own", {"train/cat": 3, "train/dog": 3, "val/cat": 1, "test/cat": 2, "test/dog": 1})
    own = load_site_data(SiteData(folder="own"), "anna", asked(), tmp_path)
    (client,) = own.clients
    assert (len(client.train), len(client.validation), len(own.test["anna"])) == (6, 1, 3)
    assert client.train.labels.tolist() == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("named", [True, False])
def test_a_table_is_read_as_the_whole_one_is(tmp_path: Path, data: Path, named: bool) -> None:
    rows = [
        (
            path.relative_to(data),
            path.parts[-2],
            path.parts[-3],
            f"{path.parts[-3]}{int(path.stem) // 2}{path.parts[-2]}",
        )
        for path in sorted(data.rglob("*.png"))
    ]
    whole = data / "whole.csv"
    whole.write_text("path,label,client,group\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    expected = load_table(TableSettings(file=str(whole), size=16, classes=()), 5)
    own = data / "own.csv"
    own.write_text(
        "path,label,group\n" + "".join(f"{path},{label},{group}\n" for path, label, who, group in rows if who == "ben")
    )
    file = whole if named else own
    found = load_site_data(SiteData(table=str(file)), "ben", asked(classes=expected.classes, seed=5), tmp_path)
    theirs = next(client for client in expected.clients if client.name == "ben")
    np.testing.assert_array_equal(found.clients[0].train.images, theirs.train.images)
    np.testing.assert_array_equal(found.clients[0].validation.labels, theirs.validation.labels)
    np.testing.assert_array_equal(found.test["ben"].images, expected.test["ben"].images)


def test_a_table_without_rows_of_the_site_is_refused(tmp_path: Path, data: Path) -> None:
    table = data / "whole.csv"
    table.write_text(
        "path,label,client\n" + "".join(f"anna/{c}/{i:03d}.png,{c},anna\n" for c in CLASSES for i in range(4))
    )
    with pytest.raises(DataError, match=r"no rows of 'ben'.*anna"):
        load_site_data(SiteData(table=str(table)), "ben", asked(), tmp_path)


def test_classes_that_were_not_agreed_on_are_refused_with_the_nearest_one(
    sites: dict[str, SiteFolder], backbone: Backbone
) -> None:
    roster = roster_of(sites)
    other = agreed_on(roster, backbone, classes=("birds", "cat", "dog"))
    with pytest.raises(DataError, match=r"not agreed on: 'bird'.*did you mean 'birds'"):
        sites["anna"].agree(other, roster)
    assert not (sites["anna"].path / "agreed.toml").exists()


def test_a_rehearsal_plays_a_client_of_a_simulated_data_set() -> None:
    settings = {"domains": ["sketch", "pixel"], "clients_per_domain": 2, "shots": 4, "test_shots": 1}
    whole = load_icons(IconSettings(domains=("sketch", "pixel"), clients_per_domain=2, shots=4, test_shots=1), 2)
    classes = tuple(reversed(whole.classes))
    played, run = SiteData(dataset="icons", settings=settings), asked(classes=classes, seed=2, image_size=48)
    own = load_site_data(played, "pixel-1", run, Path())
    theirs = next(client for client in whole.clients if client.name == "pixel-1")
    np.testing.assert_array_equal(own.clients[0].train.images, theirs.train.images)
    assert [classes[i] for i in own.clients[0].train.labels] == [whole.classes[i] for i in theirs.train.labels]
    assert own.clients[0].domain == "pixel-1" and own.clients[0].true_group == "pixel-1"
    with pytest.raises(DataError, match="no client of the data set 'icons'"):
        load_site_data(played, "anna", run, Path())
    with pytest.raises(DataError, match="'icons' has images of 48 pixels, agreed is image_size = 224"):
        load_site_data(played, "pixel-1", replace(run, image_size=224), Path())


def test_images_are_read_as_agreed(tmp_path: Path) -> None:
    for number in range(6):
        path = tmp_path / "own" / CLASSES[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 24), 1000 + number, np.uint16)).save(path)
    data = SiteData(folder="own")
    found = load_site_data(data, "anna", asked(image_size=20, grey_window=(1000, 1255)), tmp_path)
    images = found.clients[0].train.images
    assert images.shape[1:] == (20, 20, 3) and images.max() <= 5 and found.grey_window == (1000, 1255)
    with pytest.warns(DataWarning, match="grey values"):
        assert load_site_data(data, "anna", asked(), tmp_path).grey_window == (0, 1023)


def test_a_data_set_that_was_scaled_otherwise_is_refused() -> None:
    images = np.zeros((4, 16, 16, 3), np.uint8)
    one = ClientData("anna", "x", Split(images, np.array([0, 0, 1, 1])), Split(images[:2], np.array([0, 1])))
    whole = FederatedDataset("xray", CLASSES, (one,), {"x": one.validation}, grey_window=(0, 4095))
    with pytest.raises(DataError, match=r"'xray' is scaled by \[0, 4095\], agreed is grey_window = None"):
        alone(whole, "anna", asked())
    assert alone(whole, "anna", asked(grey_window=(0.0, 4095.0))).grey_window == (0, 4095)


def test_a_context_is_that_of_a_simulation_but_for_who_the_others_are(
    sites: dict[str, SiteFolder], data: Path, agreed: Agreed, backbone: Backbone
) -> None:
    whole = load_folder(FolderSettings(root=str(data), size=16), agreed.seed)
    expected = make_contexts(whole, backbone, agreed.algorithm, agreed.seed)["ben"]
    found = sites["ben"].context(agreed)
    assert found.group == 0 and found.client == "ben" and found.ledger is None
    np.testing.assert_array_equal(found.start, expected.start)
    np.testing.assert_array_equal(found.features.numpy(), expected.features.numpy())
    assert found.tokens.names == expected.tokens.names
    assert found.party is not None and found.party.roster.run == f"trial/{agreed.digest}"
    assert found.party.least_colluding == sites["ben"].file.limits.least_colluding == 1


def test_sites_that_agreed_to_something_else_have_other_rosters(sites: dict[str, SiteFolder], agreed: Agreed) -> None:
    other = replace(agreed, rounds=9)
    assert sites["anna"].party(agreed).roster.digest != sites["anna"].party(other).roster.digest
    assert sites["anna"].party(agreed).ledger.path != sites["anna"].party(other).ledger.path


def test_a_run_under_differential_privacy_has_a_ledger_at_the_site(
    sites: dict[str, SiteFolder], backbone: Backbone
) -> None:
    anna, roster = sites["anna"], roster_of(sites)
    made = agreed_on(
        roster, backbone, SecFPP(privacy=Privacy(mechanism="class_means", epsilon=2.0, epsilon_budget=9.0))
    )
    (anna.path / "site.toml").write_text(anna.file.text.replace('epsilon = "none"', "epsilon = 3"))
    again = SiteFolder(anna.path)
    again.agree(made, roster)
    charged = again.context(made).ledger
    assert charged is not None and charged.ledger.terms.budget == 3.0
    assert [path.name for path in (anna.path / "privacy").glob("*.jsonl")] == ["ledger.jsonl"]
    assert SiteFolder(anna.path).privacy_ledger(made) is not None  # and is opened again


def test_limits_roster_and_key_are_checked_before_anything_is_written(
    sites: dict[str, SiteFolder], backbone: Backbone
) -> None:
    anna, roster = sites["anna"], roster_of(sites)
    with pytest.raises(ConfigError, match=r"rounds = 500: at most 100 \(site.toml line \d+: most_rounds = 100\)"):
        anna.agree(agreed_on(roster, backbone, rounds=500), roster)
    with pytest.raises(ConfigError, match="roster = "):
        anna.agree(agreed_on(roster, backbone), roster.without("ben"))
    stranger = roster.with_key("anna", IdentityKey.generate().public)
    with pytest.raises(ConfigError, match="the key of 'anna'"):
        anna.agree(agreed_on(stranger, backbone), stranger)
    without = roster.without("anna").with_client("emil", IdentityKey.generate().public)
    with pytest.raises(ConfigError, match="name = 'anna': one in the roster"):
        anna.agree(agreed_on(without, backbone), without)
    with pytest.raises(ConfigError, match=r"backbone\.name = 'mini': the model 'mini' with the content 0000"):
        anna.agree(agreed_on(roster, backbone, backbone_digest="0000"), roster)
    assert not {"agreed.toml", "roster.toml"} & {path.name for path in anna.path.iterdir()}


def test_a_model_computes_as_the_site_says_if_it_can(
    sites: dict[str, SiteFolder], backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna, roster = sites["anna"], roster_of(sites)
    made = agreed_on(roster, backbone)
    (anna.path / "site.toml").write_text(anna.file.text.replace("threads = 1", "threads = 1\ncompile = true"))
    monkeypatch.setattr(compiling, "_lacking", lambda device: "needs this and that")
    with pytest.raises(ConfigError, match=r"site\.toml: backbone\.compile = True: needs this and that, or"):
        SiteFolder(anna.path).agree(made, roster)
    monkeypatch.setattr(compiling, "_lacking", lambda device: "")
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    compiled = SiteFolder(anna.path)
    compiled.agree(made, roster)
    assert vars(compiled.backbone(made))["compiled"]


def test_the_prompt_is_that_of_a_simulation(
    sites: dict[str, SiteFolder],
    data: Path,
    agreed: Agreed,
    backbone: Backbone,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    whole = load_folder(FolderSettings(root=str(data), size=16), agreed.seed)
    states: dict[str, ClientState] = {}
    monkeypatch.setattr(trainer, "save_checkpoint", lambda path, state, run: states.update(state.clients))
    settings = {"method": "secfpp", "seed": agreed.seed, "rounds": agreed.rounds, "checkpoint": tmp_path / "none"}
    result = trainer.train(whole, backbone, agreed.algorithm, **settings)
    files = dict(prompt_files(result, backbone.spec, whole.classes, 16, novelties(whole, backbone)))
    ben = sites["ben"]
    figures = ben.write_prompt(agreed, ben.context(agreed), states["ben"])
    (tmp_path / "expected").write_bytes(files[f"prompts/secfpp/{agreed.seed}/ben.safetensors"])
    expected, found = load_prompt(tmp_path / "expected"), load_prompt(ben.path / "prompt.safetensors")
    for field in fields(expected):
        np.testing.assert_equal(getattr(found, field.name), getattr(expected, field.name), field.name)
    assert stat.S_IMODE((ben.path / "prompt.safetensors").stat().st_mode) == 0o600
    at = result.clients.index("ben")
    assert figures["test"] == result.metrics["own"][at]
    assert figures["validation"] == pytest.approx(result.rows[-4 + at]["validation"], abs=1e-3)
    assert figures["images"] == {"train": 12, "validation": 6, "test": 6}
    assert ben.told(figures) == {}
    allowed = ben.file.text.replace("tell_metrics = false", "tell_metrics = true")
    (ben.path / "site.toml").write_text(allowed)
    assert SiteFolder(ben.path).told(figures) == figures


def test_a_state_is_bound_to_agreement_and_images(sites: dict[str, SiteFolder], data: Path, agreed: Agreed) -> None:
    anna = sites["anna"]
    anna.store(agreed).save(1, ClientState({"x": np.zeros(2)}))
    assert SiteFolder(anna.path).store(agreed).load(4) is not None
    assert anna.store(replace(agreed, rounds=3)).load(4) is None
    (data / "anna" / "cat" / "000.png").unlink()
    with pytest.raises(DataError, match="other settings, data or model"):
        SiteFolder(anna.path).store(agreed).load(4)


def test_one_process_at_a_time(sites: dict[str, SiteFolder]) -> None:
    with (
        sites["anna"].in_use(),
        pytest.raises(ConfigError, match="another process"),
        SiteFolder(sites["anna"].path).in_use(),
    ):
        pass
    with sites["anna"].in_use():
        pass
