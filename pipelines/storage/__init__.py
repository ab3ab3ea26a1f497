"""Storage of objects by key: the interface and its backends."""
