"""The learned thing: vectors that stand for one word, and what can be done with them."""
