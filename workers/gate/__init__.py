"""The gate: which provider call may be made now, and what it says of its provider."""
