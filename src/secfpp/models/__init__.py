"""Frozen vision-language models, the prompts they are steered by, and scores of images against classes."""
