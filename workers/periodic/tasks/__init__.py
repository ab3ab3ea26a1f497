"""The periodic tasks, one module each; `workers/periodic/registry.py` lists them."""
