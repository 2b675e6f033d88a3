"""One run's clients on many processors or machines, for research; Ray carries the bytes."""
