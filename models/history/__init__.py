"""Records about jobs that stay after their end: history, errors, artifacts, objects."""
