"""Data sets of many clients: readers, the embedded benchmark, partitions."""
