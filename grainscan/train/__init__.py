"""Fine-tuning: from labelled clips to a run directory."""
