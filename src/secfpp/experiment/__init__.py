"""Experiments, in rooms.

`spec` describes a run, `run` runs it, `results` is what it leaves, `report` shows that, `audit` attacks it.
"""
