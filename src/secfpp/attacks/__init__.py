"""Attacks that are really made on what parties hold, so that claims of privacy can be measured."""
