"""What a word is learned from: pictures, captions, and the training set drawn from them."""
