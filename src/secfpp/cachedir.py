"""Where things that can be made again are kept on disk, how big they are, and how to remove them.

The root is ``$SECFPP_CACHE`` if set, else ``secfpp`` in the platform's cache directory. Each kind
of content has a folder of its own, see `SUB_CACHES`.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from platformdirs import user_cache_path

from secfpp.errors import ConfigError, Problem

SUB_CACHES = ("features", "icons", "images", "noise")
VARIABLE = "SECFPP_CACHE"


def cache_root() -> Path:
    """The cache's directory, absolute; it need not exist."""
    chosen = os.environ.get(VARIABLE)
    return Path(chosen).expanduser().absolute() if chosen else user_cache_path("secfpp", appauthor=False)


def sub_cache(name: str, root: Path | None = None) -> Path:
    """The folder of one kind of content under `root` (default `cache_root`).

    Raises:
        ConfigError: `name` is not one of `SUB_CACHES`.
    """
    if name not in SUB_CACHES:
        raise ConfigError([Problem("cache", name, f"one of {', '.join(SUB_CACHES)}")])
    return (root or cache_root()) / name


def cache_sizes(root: Path | None = None) -> dict[str, int]:
    """Bytes on disk of each sub-cache; 0 where there is nothing."""
    return {name: sum(_file_size(path) for path in sub_cache(name, root).rglob("*")) for name in SUB_CACHES}


def clear_cache(name: str | None = None, root: Path | None = None) -> int:
    """Remove one sub-cache, or all of them, and say how many bytes that freed.

    Only the folders in `SUB_CACHES` are touched, so a root shared with other files is safe.

    Raises:
        ConfigError: `name` is not one of `SUB_CACHES`.
    """
    names = SUB_CACHES if name is None else (name,)
    folders = {each: sub_cache(each, root) for each in names}
    sizes = cache_sizes(root)
    for folder in folders.values():
        if folder.is_dir():
            shutil.rmtree(folder)
    return sum(sizes[each] for each in names)


def _file_size(path: Path) -> int:
    """Bytes of a regular file, 0 for anything else or for a file that has just been removed."""
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:
        return 0
