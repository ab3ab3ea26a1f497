"""Objects by key: the seam and its backends."""
