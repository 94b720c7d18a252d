"""Labelled clips: labels and manifests, splits, preparation and synthesis, and what training reads of them."""
