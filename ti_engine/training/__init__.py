"""Learning a word: settings, gradients, the evaluation set, the loop."""
