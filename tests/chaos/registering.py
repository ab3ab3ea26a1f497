"""Registers job tables that no release has in a process of Darkroom. It imports nothing that reads the registries."""

import importlib
import os

PLUGIN = "CHAOS_PLUGIN"
"""Environment variable: the module that registers them."""


def register():
    """Register what the run adds; whatever reads the registries is imported afterwards."""
    if plugin := os.environ.get(PLUGIN):
        importlib.import_module(plugin)
