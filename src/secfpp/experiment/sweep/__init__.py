"""A sweep: methods compared at every combination of the values of some settings, and how the figures move."""
