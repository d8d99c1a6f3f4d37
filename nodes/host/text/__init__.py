"""Prompts and captions through the host's text encoders, and the embedding files that prompts name."""
