"""Families of models: which checkpoints are read, and what is made of them. One module each; see `base.Family`."""
