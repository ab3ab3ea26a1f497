"""One periodic task each; `workers/periodic/registry.py` lists them."""
