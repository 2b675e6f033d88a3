"""`secfpp keys`: a client's identity, and the roster of all clients of a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from secfpp.crypto.roster import IdentityKey, Roster

keys = typer.Typer(no_args_is_help=True, help="Make a client's key, and the roster of all clients of a run.")
roster = typer.Typer(no_args_is_help=True, help="Make, change and compare the list of all clients' public keys.")
keys.add_typer(roster, name="roster")

FILE = typer.Argument(metavar="FILE", help="The roster file, TOML.")
PUBLIC = typer.Argument(metavar="PUB", help="The client's public key file.")
JSON = typer.Option(False, "--json", help="Print JSON.")


@keys.command("new")
def new(
    name: str = typer.Argument(metavar="NAME", help="The client's name, as all parties of the run use it."),
    out: Path | None = typer.Option(
        None, metavar="FILE", dir_okay=False, help="Where the private key goes; NAME.key by default."
    ),
    as_json: bool = JSON,
) -> None:
    """Make a key pair: FILE stays with the client, the public key beside it (.pub) is sent around."""
    from secfpp.crypto.roster import IdentityKey, public_line
    from secfpp.errors import ConfigError, DataError

    if out is None and Path(name).name != name:
        raise typer.BadParameter(f"a file cannot be called {name!r}: name one with --out")
    private = out or Path(f"{name}.key")
    public = private.with_suffix(".pub")
    if public == private:
        raise typer.BadParameter("the private key cannot be in a .pub file, which is for the public one")
    if os.path.exists(public):  # unlike Path.exists, no error if the name is too long: saving says that
        raise ConfigError(f"{public} exists: a key is never overwritten. Choose another file with --out")
    key = IdentityKey.generate()
    line = public_line(name, key.public)
    key.save(private)
    try:
        _write_public(public, line)
    except DataError:
        private.unlink()
        raise
    _print_pair(name, key, private, public, as_json)


@keys.command("public")
def write_public(
    private: Path = typer.Argument(metavar="FILE", help="The private key."),
    name: str = typer.Argument(metavar="NAME", help="The client's name, as all parties of the run use it."),
    as_json: bool = JSON,
) -> None:
    """Write the public key (.pub) of a private one again, beside it, if it was lost."""
    from secfpp.crypto.roster import IdentityKey, public_line
    from secfpp.errors import ConfigError

    key, public = IdentityKey.load(private), private.with_suffix(".pub")
    if os.path.exists(public):
        raise ConfigError(f"{public} exists: a key is never overwritten. Move that file away first")
    _write_public(public, public_line(name, key.public))
    _print_pair(name, key, private, public, as_json)


@keys.command("show")
def show(
    file: Path = typer.Argument(metavar="FILE", help="A private key or a public one."),
    as_json: bool = JSON,
) -> None:
    """Print name and fingerprint of a key; a private key has the name that the .pub file beside it gives."""
    from secfpp.crypto.roster import IdentityKey, fingerprint

    if file.suffix == ".pub":
        name, public = _public(file)
    else:
        public = IdentityKey.load(file).public
        name = _name_beside(file, public)
    if as_json:
        from secfpp.cli.output import print_json

        print_json({"name": name or None, "fingerprint": fingerprint(public)})
    else:
        typer.echo(f"{name or '(no name)'}  {fingerprint(public)}")


@roster.command("new")
def roster_new(
    file: Path = FILE,
    publics: list[Path] = typer.Argument(metavar="PUB...", help="The clients' public key files."),
    run: str = typer.Option(..., metavar="NAME", help="Name of the run."),
    as_json: bool = JSON,
) -> None:
    """Make version 1 of a run's roster from the clients' public keys."""
    from secfpp.crypto.roster import Roster
    from secfpp.errors import ConfigError

    if os.path.exists(file):
        raise ConfigError(f"{file} exists: change it with secfpp keys roster add, remove or replace")
    found: dict[str, bytes] = {}
    files: dict[str, Path] = {}
    for public in publics:
        name, key = _public(public)
        if name in found:
            raise ConfigError(f"{name}: more than one key given, in {files[name]} and {public}. Leave one of them out")
        found[name], files[name] = key, public
    _write(Roster(run, 1, found), file, as_json)


@roster.command("add")
def roster_add(file: Path = FILE, public: Path = PUBLIC, as_json: bool = JSON) -> None:
    """Add a client; the roster gets the next version."""
    from secfpp.crypto.roster import Roster

    _write(Roster.load(file).with_client(*_public(public)), file, as_json)


@roster.command("remove")
def roster_remove(
    file: Path = FILE,
    name: str = typer.Argument(metavar="NAME", help="The client that leaves."),
    as_json: bool = JSON,
) -> None:
    """Remove a client; the roster gets the next version."""
    from secfpp.crypto.roster import Roster

    _write(Roster.load(file).without(name), file, as_json)


@roster.command("replace")
def roster_replace(file: Path = FILE, public: Path = PUBLIC, as_json: bool = JSON) -> None:
    """Give a client a new key, the old one being lost or stolen; the roster gets the next version."""
    from secfpp.crypto.roster import Roster

    _write(Roster.load(file).with_key(*_public(public)), file, as_json)


@roster.command("show")
def roster_show(file: Path = FILE, as_json: bool = JSON) -> None:
    """Print clients and fingerprints, and the one fingerprint that parties compare by phone."""
    from secfpp.crypto.roster import Roster

    _print(Roster.load(file), as_json)


def _public(file: Path) -> tuple[str, bytes]:
    """Name and key of a public key file; no error quotes it, since it may be a private one."""
    from secfpp.crypto.roster import read_public_line
    from secfpp.errors import DataError

    try:
        with file.open("rb") as opened:
            return read_public_line(opened.read(4096).decode(errors="replace"))
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}. A client makes it with: secfpp keys new NAME") from error
    except DataError as error:
        raise DataError(f"{file}: {error}") from error


def _name_beside(private: Path, public: bytes) -> str:
    """The name in the .pub file beside a private key; if that does not tell it, the reason goes to standard error."""
    beside = private.with_suffix(".pub")
    again = f"write it again with: secfpp keys public {private} NAME"
    if not os.path.exists(beside):
        typer.echo(f"No name: {beside} is missing; {again}", err=True)
        return ""
    name, other = _public(beside)
    if other != public:
        typer.echo(f"No name: {beside} belongs to another key, of {name!r}; move it away and {again}", err=True)
        return ""
    return name


def _write_public(file: Path, line: str) -> None:
    from secfpp.errors import DataError
    from secfpp.storage import atomic_write

    try:
        atomic_write(file, f"{line}\n".encode())
    except OSError as error:
        raise DataError(f"{file} cannot be written: {error.strerror}. Give the private key another file") from error


def _print_pair(name: str, key: IdentityKey, private: Path, public: Path, as_json: bool) -> None:
    from secfpp.crypto.roster import fingerprint

    if as_json:
        from secfpp.cli.output import print_json

        files = {"private": str(private), "public": str(public)}
        print_json({"name": name, "fingerprint": fingerprint(key.public), **files})
    else:
        typer.echo(f"{name}  {fingerprint(key.public)}")
        typer.echo(f"{private}  private: keep it here, and a copy in a safe place")
        typer.echo(f"{public}  public: send it to whoever makes the roster")


def _write(made: Roster, file: Path, as_json: bool) -> None:
    made.save(file)
    _print(made, as_json)


def _print(shown: Roster, as_json: bool) -> None:
    from secfpp.crypto.roster import fingerprint

    clients = {name: fingerprint(public) for name, public in shown.keys.items()}
    if as_json:
        from secfpp.cli.output import print_json

        about = {"run": shown.run, "version": shown.version, "fingerprint": shown.fingerprint}
        print_json({**about, "digest": shown.digest.hex(), "clients": clients})
        return
    width = max(map(len, clients))
    typer.echo(f"run {shown.run}, roster version {shown.version}, clients: {len(clients)}\n")
    for name, mark in clients.items():
        typer.echo(f"{name:<{width}}  {mark}")
    typer.echo(f"\nroster fingerprint, the same for everyone:\n{shown.fingerprint}")
