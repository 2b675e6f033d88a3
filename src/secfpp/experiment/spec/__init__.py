"""Describing an experiment: settings from TOML, variants, the plan of methods and seeds."""
