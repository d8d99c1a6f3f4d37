"""Textual Inversion: learn the embedding of a new word with every weight of the model frozen."""
