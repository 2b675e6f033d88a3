"""Grouping the clients of a cohort, in the clear and on shares."""
