from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from secfpp.cli.app import app
from secfpp.crypto.roster import IdentityKey, Roster
from secfpp.deploy.agreed import Agreed
from secfpp.deploy.limits import Limits
from secfpp.deploy.site_folder import SiteFolder
from secfpp.errors import ConfigError
from secfpp.runtime.envelope import Part, Reply, Request
from secfpp.runtime.site import Handled
from support.picture_folders import picture_tree
from support.sites import CLASSES

PAGE = Path(__file__).parents[3] / "docs" / "sites.md"
CONFIG = 'seed = 4\nrounds = 6\n[method]\nname = "secfpp"\n'


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    picture_tree(tmp_path / "images", dict.fromkeys(CLASSES[:2], 4))
    (tmp_path / "run.toml").write_text(CONFIG)
    return tmp_path


def command(*words: str) -> str:
    """What a command that must succeed prints."""
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return result.stdout


def fails(*words: str) -> str:
    """The message of a command that must end with 2, without a traceback."""
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.stderr.split())


def others(*names: str) -> dict[str, bytes]:
    return {name: IdentityKey.generate().public for name in names}


@pytest.fixture
def anna() -> SiteFolder:
    command("site", "init", "anna", "--name", "anna", "--data", "images")
    own = SiteFolder(Path("anna"))
    Roster("trial", 1, {"anna": own.identity.public, **others("ben", "cleo", "dora")}).save(Path("roster.toml"))
    return own


def agree_on(*words: str) -> dict[str, Any]:
    names = ",".join(CLASSES)
    made = command("agree", "run.toml", "--roster", "roster.toml", "--classes", names, "--json", *words)
    return dict(json.loads(made))


def test_a_new_site_says_what_to_send_and_where_its_limits_are() -> None:
    shown = command("site", "init", "anna", "--name", "anna", "--data", "images")
    assert re.match(r"anna  ([A-Z2-7]{4}-){7}[A-Z2-7]{4}\n", shown)
    assert "identity.pub  public: send it" in shown and "site.toml  what this site allows" in shown
    assert "classes here: bird, cat" in shown
    assert "a site already" in fails("site", "init", "anna", "--name", "anna", "--data", "images")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--name", "anna"), "give the images with --data"),
        (("--name", "anna", "--data", "nowhere"), "no such folder"),
        (("--name", " ", "--data", "images"), "client name ' '"),
    ],
)
def test_what_cannot_be_a_site_leaves_nothing_behind(words: tuple[str, ...], message: str) -> None:
    assert message in fails("site", "init", "anna", *words)
    assert not Path("anna").exists()


def test_nobody_writes_hashes_by_hand(anna: SiteFolder) -> None:
    about = agree_on("--set", "rounds=8", "--deadline", "20")
    made = Agreed.load(Path("agreed.toml"))
    assert about["digest"] == made.digest
    assert (made.run, made.rounds, made.seed, made.fewest, made.deadline) == ("trial", 8, 4, 4, 20.0)
    assert made.classes == CLASSES and len(made.backbone_digest) == 64
    assert "exists already" in fails("agree", "run.toml", "--roster", "roster.toml", "--classes", "a,b")


def test_size_and_grey_window_are_the_configs_unless_they_are_given(anna: SiteFolder, tmp_path: Path) -> None:
    about = agree_on()["agreed"]
    assert (about["image_size"], about["grey_window"]) == (224, "none")
    Path("run.toml").write_text(f'{CONFIG}[data]\nname = "folder"\nroot = "x"\nsize = 64\ngrey_window = [0, 4095]\n')
    about = agree_on("--force")
    assert (about["agreed"]["image_size"], about["agreed"]["grey_window"]) == (64, [0, 4095])
    assert Agreed.load(Path("agreed.toml")).digest == about["digest"]
    about = agree_on("--force", "--image-size", "32", "--grey-window", "5", "9")["agreed"]
    assert (about["image_size"], about["grey_window"]) == (32, [5, 9])
    assert "images of 32 pixels, grey values 5 to 9" in command("site", "agree", "anna", "agreed.toml")
    with pytest.raises(ConfigError, match=r"image_size = 7(.|\n)*grey_window"):
        Agreed.parse({**about, "image_size": 7, "grey_window": [1]})
    with pytest.raises(ConfigError, match="black below that of white"):
        Agreed.parse({**about, "grey_window": [9, 5]})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "participation=0.5"), "participation = 0.5"),
        (("--set", "held_out=0.2"), "held_out = 0.2"),
        (("--set", "seeds=[1,2]"), "one seed"),
        (("--method", "zero_shot"), "a method that trains"),
        (("--method", "secfpp+oracle"), "nobody knows true groups"),
        (("--template", "a photo"), "text that ends with {}"),
        (("--fewest", "2"), "clusterer.min_cluster_size = 4"),
    ],
)
def test_what_a_deployed_run_cannot_have_is_refused(anna: SiteFolder, words: tuple[str, ...], message: str) -> None:
    found = fails("agree", "run.toml", "--roster", "roster.toml", "--classes", ",".join(CLASSES), *words)
    assert message in found
    assert not Path("agreed.toml").exists()


def test_agreeing_says_what_leaves_and_what_to_compare(anna: SiteFolder) -> None:
    digest = agree_on()["digest"]
    shown = command("site", "agree", "anna", "agreed.toml")
    assert digest in shown and Roster.load(Path("roster.toml")).fingerprint in shown
    assert "sums of image features of each class" in shown and "as shares that nobody can read alone" in shown
    assert "CLEAR" not in shown and "anna (this site)" in shown
    about = json.loads(command("site", "show", "anna", "--json"))
    assert about["run"]["digest"] == digest and about["limits"]["most_rounds"] == 100
    assert "largest_weight" in command("site", "show", "anna")


def test_a_run_that_asks_for_more_is_refused_with_the_line(anna: SiteFolder) -> None:
    agree_on("--set", "rounds=101")
    line = next(i for i, text in enumerate(anna.file.text.splitlines(), 1) if text.startswith("most_rounds"))
    assert f"rounds = 101: at most 100 (site.toml line {line}: most_rounds = 100)" in fails(
        "site", "agree", "anna", "agreed.toml"
    )
    assert "No run is agreed to" in command("site", "show", "anna")


def test_a_site_that_asks_for_active_security_refuses_passive_runs(anna: SiteFolder) -> None:
    file = anna.path / "site.toml"
    file.write_text(anna.file.text.replace("active_security = false", "active_security = true"))
    line = next(i for i, text in enumerate(file.read_text().splitlines(), 1) if text.startswith("active_security"))
    agree_on()
    found = fails("site", "agree", "anna", "agreed.toml")
    rule = f'"active" (site.toml line {line}: active_security = true)'
    assert "method.clusterer.security = 'passive'" in found and "method.poll.security = 'passive'" in found
    assert found.count(rule) == 2
    assert re.search(r"active_security +true", command("site", "show", "anna"))
    wanted = [f"--set=method.{part}.security=active" for part in ("clusterer", "poll")]
    agree_on("--force", "--fewest", "7", *wanted)
    assert "also if the server sends false values" in command("site", "agree", "anna", "agreed.toml")
    file.write_text(anna.file.text)
    agree_on("--force")
    command("site", "agree", "anna", "agreed.toml")
    file.write_text(anna.file.text.replace("active_security = false", "active_security = true"))
    result = CliRunner().invoke(app, ["site", "check", "anna"])
    assert result.exit_code == 1 and "fail agreed" in result.stdout and rule in result.stdout


def test_a_check_tries_what_a_run_needs(anna: SiteFolder) -> None:
    result = CliRunner().invoke(app, ["site", "check", "anna"])
    assert result.exit_code == 1 and "ok   key" in result.stdout and "fail agreed" in result.stdout
    agree_on()
    command("site", "agree", "anna", "agreed.toml")
    found = {line["what"]: line for line in json.loads(command("site", "check", "anna", "--json"))}
    assert all(line["ok"] for line in found.values()) and "ready for a first round" in found["start"]["found"]
    assert "2 of 3 classes" in found["images"]["found"]
    Path("images/cat/000.png").write_bytes(b"broken")
    result = CliRunner().invoke(app, ["site", "check", "anna"])
    assert result.exit_code == 1 and "000.png" in result.stdout


def test_the_log_says_who_asked_what_left_and_what_was_refused(anna: SiteFolder) -> None:
    assert "nobody asked" in command("site", "log", "anna")
    log = anna.log("trial")
    log.opened({"digest": "abcdef"}, "server")
    asked = Request("ask", 1, 3, 2, (Part("", "method.train", b"12345"),))
    log.handled(Handled(asked, Reply(2, parts=(Part("", "done", b"123"),)), 100, 3000), "server")
    log.handled(Handled(asked, Reply(2, parts=(Part("", "ValueError", b""),)), 100, 90), "server")
    log.handled(Handled(Request("ask", 1, 1, 1), Reply(1, "old"), 50, 60), "server")
    shown = command("site", "log", "anna")
    assert "asked by server" in shown and "rounds 3 to 3" in shown
    assert re.search(r"method\.train +2 +10 B +3 B", shown)
    assert "refused 1 x ask: old" in shown and "failed 1 x method.train: ValueError" in shown
    each = command("site", "log", "anna", "--run", "trial", "--each").splitlines()
    assert len(each) == 5 and "asked for: abcdef" in each[1] and "100 B in, 3000 B out" in each[2]
    assert len(json.loads(command("site", "log", "anna", "--json"))["trial"]) == 4
    assert "once a run was asked for" in fails("site", "log", "anna", "--run", "other")


def test_a_rehearsal_plays_a_client_of_a_config(folder: Path) -> None:
    (folder / "icons.toml").write_text(
        'seed = 1\n[data]\nname = "icons"\ndomains = ["pixel"]\nclients_per_domain = 4\nshots = 4\ntest_shots = 1\n'
    )
    command("site", "init", "pixel-1", "--name", "pixel-1", "--rehearse", "icons.toml")
    own = SiteFolder(folder / "pixel-1")
    keys = {"pixel-1": own.identity.public, **others("pixel-0", "pixel-2", "pixel-3")}
    Roster("trial", 1, keys).save(Path("roster.toml"))
    command("agree", "icons.toml", "--roster", "roster.toml", "--classes", "data")
    command("site", "agree", "pixel-1", "agreed.toml")
    assert all(line["ok"] for line in json.loads(command("site", "check", "pixel-1", "--json")))


def test_the_commands_of_the_sites_page_work_in_their_order(folder: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    picture_tree(folder / "images", {})
    for name in CLASSES[:2]:
        for path in sorted((folder / "images" / name).iterdir()):
            path.unlink()
        (folder / "images" / name).rmdir()
    picture_tree(folder / "images", {"normal": 4, "pneumonia": 4})
    for name in ("ben", "cleo", "dora"):
        command("keys", "new", name)
    (config,) = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (folder / "run.toml").write_text(config)
    ran = []
    for block in re.findall(r"^```console\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            program, *words = shlex.split(line.removeprefix("$ "))
            assert program == "secfpp"
            command(*words)
            ran.append(" ".join(words[:2]))
    assert {"site init", "agree run.toml", "site agree", "site check", "site log"} <= set(ran)


def test_the_sites_page_names_every_limit_with_its_default() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in Limits.__dataclass_fields__:
        value = getattr(Limits(), name)
        told = '"none"' if value is None else json.dumps(value)
        assert re.search(rf"^\| `{name}` \| `?{re.escape(told)}`? \|", page, re.MULTILINE), name
