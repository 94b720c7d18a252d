"""Labelled clips: labels and manifests, splits, preparation, synthesis, and the views that training reads."""
