"""Names of files that a server and who hands in its jobs both know."""

AGREED = "agreed.toml"
"""In a run's folder: what all sites agreed to."""
RESULTS = "results"
"""In a run's folder, and with the job: what is handed to who started it."""
STATUS = "secfpp-status.json"
"""With the job: the exit status, and why."""
