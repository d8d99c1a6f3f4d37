"""The host's models: which family they are, their vocabularies, their weights."""
