"""From files to verdicts: the one path of `predict` and `eval`."""
