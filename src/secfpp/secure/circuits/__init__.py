"""Computations on shares: what is computed, and how holders and server go through it together."""
