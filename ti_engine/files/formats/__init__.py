"""The formats of embedding files: which keys hold the vectors, and what the rest of a file says."""
