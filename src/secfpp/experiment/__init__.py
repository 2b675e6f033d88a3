"""Experiments: read a config, run methods on seeds, keep the results, show them."""
