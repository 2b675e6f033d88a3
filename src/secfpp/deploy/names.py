"""Names of files that a server and who hands in its jobs both know."""

from pathlib import Path

from secfpp.errors import ConfigError

AGREED = "agreed.toml"
"""In a run's folder: what all sites agreed to."""
RESULTS = "results"
"""In a run's folder, and with the job: what is handed to who started it."""
STATUS = "secfpp-status.json"
"""With the job: the exit status, and why."""


def plain_name(run: str) -> str:
    """A run's name, if a folder can be called so.

    Raises:
        ConfigError: it cannot.
    """
    if not run or Path(run).name != run or run.startswith("."):
        raise ConfigError(f"run name {run!r}: it names a folder, so it has no slash, and no dot in front")
    return run
