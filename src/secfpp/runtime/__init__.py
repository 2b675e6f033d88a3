"""Drivers that carry programs to clients, and the training loop."""
