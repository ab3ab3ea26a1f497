"""The dashboard: pages on which operators see what Darkroom does, and steer it."""
