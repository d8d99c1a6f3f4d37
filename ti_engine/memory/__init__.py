"""Computing a step in the memory that there is."""
