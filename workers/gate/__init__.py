"""The gate: whether a provider call may be made now, and what its outcome says about the provider."""
