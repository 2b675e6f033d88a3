"""Runs between organisations: engines that carry messages, and what binds them to the parties of a roster."""
