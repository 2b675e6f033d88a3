"""Polls: one bit of what a sum over clients says, and nothing else of it."""
