"""A run on disk: found by its key, kept while it goes on, resumed to the bit, and read again afterwards."""
