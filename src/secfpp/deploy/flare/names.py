"""Files that server and administrator both know; importing it needs no FLARE."""

AGREED = "agreed.toml"
"""In a run's folder: what all sites agreed to."""
RESULTS = "results"
"""In a run's folder, and with the job: what is handed to who started it."""
STATUS = "secfpp-status.json"
"""With the job: the exit status, and why."""
