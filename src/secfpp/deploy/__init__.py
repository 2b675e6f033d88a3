"""Runs between organisations: what is agreed, what a site allows, and the engines that carry messages."""
