"""Reads what open_clip (github.com/mlfoundations/open_clip) and OpenAI's clip save, without importing either."""
