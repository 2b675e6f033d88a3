from __future__ import annotations

import json
import re
import shlex
import stat
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from secfpp.cli.app import app
from secfpp.crypto.roster import IdentityKey, Roster, fingerprint, read_public_line

PAGE = Path(__file__).parents[3] / "docs" / "keys.md"


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def keys(*words: str) -> str:
    """What a command that must succeed prints."""
    result = CliRunner().invoke(app, ["keys", *words])
    assert result.exit_code == 0, result.output
    return result.stdout


def fails(*words: str) -> str:
    """The message of a command that must end with 2, without a traceback."""
    result = CliRunner().invoke(app, ["keys", *words])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output and result.stdout == ""
    return " ".join(result.stderr.split())


def public_of(name: str) -> bytes:
    return read_public_line(Path(f"{name}.pub").read_text(encoding="utf-8"))[1]


def made(*names: str) -> list[str]:
    """Keys for these clients; the names of the public files."""
    for name in names:
        keys("new", name)
    return [f"{name}.pub" for name in names]


def test_a_new_key_is_two_files_and_a_fingerprint() -> None:
    shown = keys("new", "anna")
    assert shown.splitlines()[0] == f"anna  {fingerprint(public_of('anna'))}"
    assert "anna.key  private" in shown and "anna.pub  public" in shown
    assert stat.S_IMODE(Path("anna.key").stat().st_mode) == 0o600
    assert IdentityKey.load(Path("anna.key")).public == public_of("anna")
    assert sorted(path.name for path in Path().iterdir()) == ["anna.key", "anna.pub"]


def test_a_new_key_goes_where_it_is_told() -> None:
    about = json.loads(keys("new", "ward/3", "--out", "secret/ward.pem", "--json"))
    name, public = read_public_line(Path("secret/ward.pub").read_text())
    assert IdentityKey.load(Path("secret/ward.pem")).public == public
    assert (name, about) == (
        "ward/3",
        {
            "name": "ward/3",
            "fingerprint": fingerprint(public),
            "private": "secret/ward.pem",
            "public": "secret/ward.pub",
        },
    )


def test_a_name_with_a_dot_keeps_its_files_apart() -> None:
    made("ward.3", "ward.4")
    assert public_of("ward.3") != public_of("ward.4")


@pytest.mark.parametrize("left", ["anna.key", "anna.pub"])
def test_a_key_is_not_overwritten_by_a_new_one(left: str) -> None:
    Path(left).write_text("old")
    message = fails("new", "anna")
    assert f"{left} exists: a key is never overwritten. Choose another file" in message and "--out" in message
    assert Path(left).read_text() == "old"
    assert [path.name for path in Path().iterdir()] == [left]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["server", "--out", "k"], "client name 'server'"),
        ([" anna"], "client name ' anna'"),
        (["a/b"], "--out"),
        (["a" * 255], "File name too long. Choose another file: secfpp keys new NAME --out FILE"),
        (["a" * 300], "1 to 255 bytes"),
        (["é" * 120], "--out"),
        (["anna", "--out", "k" * 300], "--out"),
        (["anna", "--out", "k" * 239], "cannot be written: File name too long"),  # room for this, none for .pub
        (["anna", "--out", "."], "directory"),
        (["anna", "--out", "anna.pub"], ".pub"),
        ([], "NAME"),
    ],
)
def test_a_key_that_cannot_be_named_leaves_no_file(words: list[str], said: str) -> None:
    assert said in fails("new", *words)
    assert list(Path().iterdir()) == []


def test_a_long_name_goes_into_a_short_file() -> None:
    name = "a" * 255
    keys("new", name, "--out", "a.key")
    assert keys("show", "a.key").startswith(f"{name}  ")


def test_both_halves_of_a_key_show_the_same_fingerprint() -> None:
    made("anna", "ben")
    line = f"anna  {fingerprint(public_of('anna'))}\n"
    assert keys("show", "anna.key") == keys("show", "anna.pub") == line
    assert json.loads(keys("show", "anna.key", "--json")) == {"name": "anna", "fingerprint": line.split()[1]}


def test_a_private_key_takes_no_name_from_anothers_public_key() -> None:
    made("anna", "ben")
    Path("ben.pub").rename("anna.pub")
    result = CliRunner().invoke(app, ["keys", "show", "anna.key"])
    assert result.stdout.startswith("(no name)  ")
    assert "anna.pub belongs to another key, of 'ben'; move it away and" in result.stderr
    assert "secfpp keys public anna.key NAME" in result.stderr
    Path("anna.pub").unlink()
    result = CliRunner().invoke(app, ["keys", "show", "anna.key", "--json"])
    assert json.loads(result.stdout)["name"] is None
    assert "anna.pub is missing; write it again with: secfpp keys public anna.key NAME" in result.stderr


def test_a_lost_public_key_is_written_again() -> None:
    made("anna")
    before = Path("anna.pub").read_bytes()
    Path("anna.pub").unlink()
    assert keys("public", "anna.key", "anna").startswith(f"anna  {fingerprint(read_public_line(before.decode())[1])}")
    assert Path("anna.pub").read_bytes() == before
    assert "anna.pub exists: a key is never overwritten" in fails("public", "anna.key", "ben")
    assert Path("anna.pub").read_bytes() == before
    Path("anna.pub").unlink()
    assert "client name 'server'" in fails("public", "anna.key", "server")
    assert "none.key: No such file" in fails("public", "none.key", "anna")
    about = json.loads(keys("public", "anna.key", "anna", "--json"))
    assert (about["private"], about["public"]) == ("anna.key", "anna.pub")


def test_show_refuses_what_is_no_key() -> None:
    made("anna")
    Path("x.pub").write_bytes(Path("anna.key").read_bytes())  # the wrong half sent around
    message = fails("show", "x.pub")
    assert "x.pub: not a public key" in message and "PRIVATE" not in message
    Path("y.pub").write_bytes(b"\xff\x00")
    assert "y.pub: not a public key" in fails("show", "y.pub")
    assert "none.pub: No such file" in fails("show", "none.pub")
    assert "none.key: No such file" in fails("show", "none.key")
    Path("anna.key").chmod(0o644)
    assert "chmod 600 anna.key" in fails("show", "anna.key")


def test_a_roster_is_made_shown_and_compared() -> None:
    shown = keys("roster", "new", "r.toml", *made("anna", "benedict"), "--run", "trial")
    roster = Roster.load(Path("r.toml"))
    assert (roster.run, roster.version, set(roster.keys)) == ("trial", 1, {"anna", "benedict"})
    assert shown == keys("roster", "show", "r.toml")
    assert shown.splitlines() == [
        "run trial, roster version 1, clients: 2",
        "",
        f"anna      {fingerprint(public_of('anna'))}",
        f"benedict  {fingerprint(public_of('benedict'))}",
        "",
        "roster fingerprint, the same for everyone:",
        roster.fingerprint,
    ]
    assert json.loads(keys("roster", "show", "r.toml", "--json")) == {
        "run": "trial",
        "version": 1,
        "fingerprint": roster.fingerprint,
        "digest": roster.digest.hex(),
        "clients": {name: fingerprint(public) for name, public in roster.keys.items()},
    }


def test_every_change_of_a_roster_is_a_new_version() -> None:
    keys("roster", "new", "r.toml", *made("anna", "ben"), "--run", "trial")
    first = Roster.load(Path("r.toml"))
    keys("roster", "add", "r.toml", *made("cleo"))
    assert Roster.load(Path("r.toml")) == first.with_client("cleo", public_of("cleo"))
    keys("roster", "remove", "r.toml", "cleo")
    assert Roster.load(Path("r.toml")) == Roster("trial", 3, first.keys)
    keys("new", "ben", "--out", "new/ben.key")
    about = json.loads(keys("roster", "replace", "r.toml", "new/ben.pub", "--json"))
    assert (about["version"], about["clients"]["anna"]) == (4, fingerprint(public_of("anna")))
    assert about["clients"]["ben"] == fingerprint(IdentityKey.load(Path("new/ben.key")).public)


def test_changes_that_make_no_sense_leave_the_roster_as_it_was() -> None:
    keys("roster", "new", "r.toml", *made("anna", "ben"), "--run", "trial")
    made("dora")
    before = Path("r.toml").read_bytes()
    assert "'anna' is in this roster already" in fails("roster", "add", "r.toml", "anna.pub")
    for verb, named, remedy in [("remove", "dora", "show"), ("replace", "dora.pub", "add")]:
        message = fails("roster", verb, "r.toml", named)
        assert "'dora' is not in this roster of anna, ben" in message
        assert message.endswith(f"secfpp keys roster {remedy}")
    assert "the key that 'ben' has already" in fails("roster", "replace", "r.toml", "ben.pub")
    assert "r.toml exists" in fails("roster", "new", "r.toml", "dora.pub", "--run", "trial")
    assert "anna.key: not a public key" in fails("roster", "add", "r.toml", "anna.key")
    assert Path("r.toml").read_bytes() == before


def test_a_roster_that_cannot_be_made_leaves_no_file() -> None:
    made("anna")
    keys("new", "anna", "--out", "other.key")
    message = fails("roster", "new", "r.toml", "anna.pub", "other.pub", "--run", "trial")
    assert "anna: more than one key given, in anna.pub and other.pub" in message
    assert "File name too long" in fails("roster", "new", "r" * 300, "anna.pub", "--run", "trial")
    assert "run name ''" in fails("roster", "new", "r.toml", "anna.pub", "--run", "")
    assert "none.pub: No such file" in fails("roster", "new", "r.toml", "none.pub", "--run", "trial")
    assert "--run" in fails("roster", "new", "r.toml", "anna.pub")
    assert not Path("r.toml").exists()


def test_one_key_given_twice_is_refused() -> None:
    made("anna")
    Path("ben.pub").write_text(Path("anna.pub").read_text().replace(" anna", " ben"))
    message = fails("roster", "new", "r.toml", "anna.pub", "ben.pub", "--run", "trial")
    assert "'anna' and 'ben' have one and the same key" in message


def test_a_roster_changed_by_hand_is_refused() -> None:
    keys("roster", "new", "r.toml", *made("anna", "ben"), "--run", "trial")
    path = Path("r.toml")
    path.write_text(path.read_text().replace("version = 1", "version = 2"))
    assert "r.toml: the roster has the fingerprint" in fails("roster", "show", "r.toml")
    assert "r.toml: the roster has the fingerprint" in fails("roster", "remove", "r.toml", "ben")
    assert "none.toml: No such file" in fails("roster", "show", "none.toml")


def test_the_commands_of_the_keys_page_work_in_their_order() -> None:
    ran: list[str] = []
    for block in re.findall(r"^```console\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            command = line.removeprefix("$ ").partition("#")[0]
            program, *words = shlex.split(command)
            result: Any = CliRunner().invoke(app, words)
            assert (program, result.exit_code) == ("secfpp", 0), f"{line}: {result.output}"
            ran.append(" ".join(words[: 3 if words[1] == "roster" else 2]))
    verbs = ("new", "show", "add", "remove", "replace")
    assert set(ran) == {"keys new", "keys show", *(f"keys roster {verb}" for verb in verbs)}
