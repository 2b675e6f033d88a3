"""Partitions: how labelled images are dealt to clients. A module with a `Partition` in it is found by being there."""
