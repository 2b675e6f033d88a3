"""Averaging an array of client states over a cohort, in the clear and on shares."""
