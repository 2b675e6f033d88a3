"""Showing results: the report, its charts, methods against each other."""
