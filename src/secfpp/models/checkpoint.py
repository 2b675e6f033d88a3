"""Finds a checkpoint by its name: the embedded one, a directory, or one on the Hugging Face hub.

Which kinds of models are read, and how, is said in `secfpp.models.families`.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from secfpp.errors import ConfigError
from secfpp.models.families.base import Checkpoint, families, refuse
from secfpp.models.families.hugging_face import HuggingFaceFamily
from secfpp.models.foreign_checkpoints import Files, config_reason, file_reason, folder_reason

__all__ = ["Checkpoint", "load_checkpoint"]

MINI = Path(__file__).parent / "assets" / "mini_clip"
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def load_checkpoint(name: str) -> Checkpoint:
    """The checkpoint called `name`: ``mini``, a directory, one of OpenAI's files, or a name on the Hugging Face hub.

    A name on the hub is looked up in the local cache first and downloaded only if it is not there.

    Raises:
        ConfigError: nothing can be loaded under that name, or it is not a complete checkpoint of any family.
    """
    folder = MINI if name == "mini" else Path(name).expanduser()
    if folder.exists():
        return _load(name, str(folder), local=True)
    if name == "mini":
        raise refuse(name, f"the embedded model is not in this installation ({folder}): install secfpp again")
    if not HUB_NAME.fullmatch(name):
        raise refuse(name, "no such directory; give a CLIP checkpoint's directory, its name on the hub, or 'mini'")
    try:
        return _load(name, name, local=True)
    except ConfigError as not_cached:
        if not isinstance(not_cached.__cause__, OSError):
            raise
    return _load(name, name, local=False)


def _load(name: str, source: str, local: bool) -> Checkpoint:
    with _quiet():
        try:
            return _read(name, source, local)
        except OSError as error:
            remedy = "a file of the checkpoint is missing or unreadable; save it again with save_pretrained"
            if not Path(source).is_dir():
                remedy = (
                    "no such directory, not in the local Hugging Face cache, and the hub did not give it (no network, "
                    f"HF_HUB_OFFLINE is set, or no such name): run `hf download {name}` where there is a network, "
                    "give a checkpoint's directory, or use 'mini'"
                )
            raise refuse(name, f"{remedy}. Cause: {_first_line(error)}") from error
        except ConfigError:
            raise
        except Exception as error:  # transformers raises whatever it stumbles over in a config or in damaged bytes
            reason = f"the checkpoint cannot be read. Cause: {type(error).__name__}: {_first_line(error)}"
            raise refuse(name, reason) from error


def _read(name: str, source: str, local: bool) -> Checkpoint:
    files = Files(source, local)
    config, missing = _config(files)
    known = [each.model_type for each in families() if isinstance(each, HuggingFaceFamily)]
    strange = config_reason(config, known) if config is not None else ""
    if strange and config is not None and "model_type" in config:
        raise refuse(name, strange)
    for family in families():
        if family.takes(files, config):
            return family.load(name, files)
    if missing is None:
        raise refuse(name, strange or f"no family of models takes it: {', '.join(each.name for each in families())}")
    if Path(source).is_file():
        raise refuse(name, file_reason(name))
    reason = folder_reason(files)
    if Path(source).is_dir():
        lacks = "the directory has no config.json, so it is not a Hugging Face checkpoint"
        raise refuse(name, "; ".join(filter(None, (lacks, reason))))
    raise refuse(name, reason) if reason else missing


def _config(files: Files) -> tuple[Mapping[str, Any] | None, OSError | None]:
    """What ``config.json`` says, or why it cannot be had."""
    if Path(files.source).exists() and not files.has("config.json"):
        return None, OSError("no config.json")
    hf: Any = importlib.import_module("transformers")
    try:
        return hf.PreTrainedConfig.get_config_dict(files.source, local_files_only=files.local)[0], None
    except OSError as error:
        return None, error


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars or advice from transformers inside; its settings are restored after."""
    logging: Any = importlib.import_module("transformers.utils.logging")
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
