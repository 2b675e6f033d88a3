"""Flower as the engine: it carries bytes between a server and its sites, and nothing else."""
