"""How good a model is, and the calibration that turns its outputs into probabilities."""
