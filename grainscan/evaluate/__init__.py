"""How good a model is, and what turns its output into probabilities."""
