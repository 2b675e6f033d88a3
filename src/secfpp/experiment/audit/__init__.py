"""Audits: runs attacked, and what came of it."""
