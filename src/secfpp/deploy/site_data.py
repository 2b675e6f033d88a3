"""A site's own images as the data set of one client."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from secfpp.data.catalog import datasets
from secfpp.data.federated import FederatedDataset, Split
from secfpp.data.folder_survey import survey
from secfpp.data.holdings import SPELLINGS, Holding
from secfpp.data.own_images import OwnSettings, federated
from secfpp.data.tables import TableSettings, table_holdings
from secfpp.deploy.agreed import Agreed
from secfpp.deploy.site_file import SiteData
from secfpp.errors import ConfigError, DataError, DataWarning, Problem
from secfpp.experiment.spec.schema import build, one_of
from secfpp.image_names import passed_over


def load_site_data(data: SiteData, name: str, agreed: Agreed, base: Path) -> FederatedDataset:
    """The images of one site, which is a domain of its own.

    They are split as they would be if the images of all sites were read in one place from folders CLIENT/CLASS, or from
    one table, with the same seed and settings.

    Args:
        data: where they are.
        name: of the client.
        agreed: the run: class names, of which the site need not have all, seed of the split, size of the images.
        base: the folder that paths are relative to.

    Raises:
        ConfigError: settings that cannot work.
        DataError: images that cannot be used; classes, or sizes of simulated images, that were not agreed on.
    """
    if data.dataset:
        return alone(_simulated(data, agreed.seed), name, agreed)
    holding = _holding(data, name, base)
    require_classes([picture.label for picture in holding.pictures], agreed.classes, holding.place)
    settings = OwnSettings(
        validation=data.validation,
        test=data.test,
        shots=data.shots,
        size=agreed.image_size,
        memory_gib=data.memory_gib,
        grey_window=agreed.grey_window,
        template=agreed.template,
    )
    return federated(name, [holding], settings, agreed.seed, {}, agreed.classes)


def class_names(data: SiteData, name: str, seed: int, base: Path) -> list[str]:
    """The classes of which a site has images, sorted; no image is opened, but those of a simulated data set are made.

    Raises:
        ConfigError, DataError: as for `load_site_data`.
    """
    if data.dataset:
        return sorted(_simulated(data, seed).classes)
    return sorted({picture.label for picture in _holding(data, name, base).pictures})


def require_classes(found: Sequence[str], classes: Sequence[str], place: str) -> None:
    """Refuse classes that were not agreed on.

    Raises:
        DataError: names them, with the nearest one that was.
    """
    strange = sorted(set(found) - set(classes))
    if strange:
        named = "; ".join(f"{each!r}: {one_of(each, classes, 'class').partition(' Known')[0]}" for each in strange[:10])
        raise DataError(
            f"{place}: classes that were not agreed on: {named}. Rename them as agreed, take their images out, or "
            f"agree on a list that has them; agreed are {', '.join(classes)}"
        )


def _holding(data: SiteData, name: str, base: Path) -> Holding:
    """All pictures, as those of the client `name`, who is a domain."""
    if data.table:
        file = base / Path(data.table).expanduser()
        root = str(base / Path(data.root).expanduser()) if data.root else ""
        return _own_rows(table_holdings(TableSettings(file=str(file), root=root)), name, file)
    root_folder = base / Path(data.folder).expanduser()
    layout = "split/class" if _is_split(root_folder) else "class"
    holdings, others = survey(root_folder, layout)  # type: ignore[arg-type]
    if others:
        warnings.warn(f"{root_folder}: {passed_over(others)}", DataWarning, stacklevel=2)
    (holding,) = holdings
    return replace(holding, domain=name, client=name)


def _is_split(root: Path) -> bool:
    """Whether the folders below `root` are those of parts, not of classes."""
    if not root.is_dir():
        raise DataError(f"data.folder = {str(root)!r}: no such folder")
    found = [path.name.lower() for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
    parts = {SPELLINGS.get(each) for each in found}
    return len(found) > 1 and None not in parts and "train" in parts


def _own_rows(holdings: Sequence[Holding], name: str, file: Path) -> Holding:
    """The site's own rows of a table, which may name several clients or none."""
    own = [holding for holding in holdings if holding.client in ("", name)]
    if not own:
        named = ", ".join(sorted(holding.client for holding in holdings))
        raise DataError(f"{file}: no rows of {name!r} in its column client, which names {named}: correct site.toml")
    pictures = sorted((picture for holding in own for picture in holding.pictures), key=lambda picture: picture.path)
    return Holding(own[0].place, name, name, tuple(pictures))


def _simulated(data: SiteData, seed: int) -> FederatedDataset:
    problems: list[Problem] = []
    known = datasets()
    if data.dataset not in known:
        raise ConfigError([Problem("data.dataset", data.dataset, one_of(data.dataset, known, "data set"))])
    settings = build(known[data.dataset].settings, data.settings, "data.settings", problems)
    if problems:
        raise ConfigError(problems)
    return known[data.dataset].load(settings, seed)


def alone(whole: FederatedDataset, name: str, agreed: Agreed) -> FederatedDataset:
    """The client `name` of a simulated data set, as if it knew nothing of the others.

    Args:
        whole: all clients.
        name: of one.
        agreed: the run.

    Raises:
        DataError: no such client; classes, a size or a grey window that were not agreed on.
    """
    client = next((each for each in whole.clients if each.name == name), None)
    if client is None:
        names = ", ".join(each.name for each in whole.clients)
        raise DataError(f"name = {name!r}: no client of the data set {whole.name!r}, which has {names}")
    require_classes(whole.classes, agreed.classes, f"the data set {whole.name!r}")
    _require_pixels(whole, agreed)
    number = np.array([agreed.classes.index(each) for each in whole.classes])

    def relabelled(split: Split) -> Split:
        return Split(split.images, number[split.labels])

    own = replace(
        client, domain=name, group="", train=relabelled(client.train), validation=relabelled(client.validation)
    )
    test = {name: relabelled(whole.test[client.domain])}
    return FederatedDataset(name, agreed.classes, (own,), test, agreed.template, grey_window=whole.grey_window)


def _require_pixels(whole: FederatedDataset, agreed: Agreed) -> None:
    """Refuse simulated images that were made or read otherwise than agreed; they are not read again."""
    place = f"the data set {whole.name!r}"
    if whole.image_size != agreed.image_size:
        raise DataError(
            f"{place} has images of {whole.image_size} pixels, agreed is image_size = {agreed.image_size}: give it "
            f"other settings, or agree on {whole.image_size}"
        )
    if whole.grey_window not in (None, agreed.grey_window):
        window, wanted = (None if one is None else list(one) for one in (whole.grey_window, agreed.grey_window))
        raise DataError(f"{place} is scaled by {window}, agreed is grey_window = {wanted}: agree on {window}")
