"""What Darkroom counts for Prometheus, and how a process serves it beside its health."""
