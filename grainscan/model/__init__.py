"""The model: its specification, its network, its files. Only `spec` and `last_run` are free of torch."""
