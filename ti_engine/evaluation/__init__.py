"""How good a learned word is: likeness to the training pictures, and whether the rest of a prompt still counts."""
