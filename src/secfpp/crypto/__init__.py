"""Arithmetic of secure sums: the prime field and the codec of real numbers."""
