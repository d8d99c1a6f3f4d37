"""Borrowing the host's models for training, in the memory that there is."""
