"""What other packages offer as entry points."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

from secfpp.errors import ConfigError


def offered(group: str, what: str) -> Iterator[tuple[str, Any]]:
    """Every entry point of `group`: where it is from, in words, and what it is.

    Args:
        group: of entry points.
        what: in words, what one of this group is, such as ``data set``.

    Raises:
        ConfigError: an entry point that cannot be loaded.
    """
    for entry in entry_points(group=group):
        package = entry.dist.name if entry.dist else "a package without a name"
        place = f"the {what} {entry.value!r} of {package} (entry point {entry.name!r} of group {group!r})"
        try:
            found = entry.load()
        except Exception as error:  # whatever another package stumbles over
            raise ConfigError(
                f"{place} cannot be loaded: {type(error).__name__}: {error}; mend or uninstall {package}"
            ) from error
        yield place, found
