"""Registers job tables that no release has in a process of Darkroom. It imports nothing that reads the registries."""

import importlib
import os

PLUGINS = "CHAOS_PLUGINS"
"""Environment variable: the modules that register them, separated by commas."""


def register():
    """Register what the run adds; whatever reads the registries is imported afterwards."""
    for plugin in filter(None, os.environ.get(PLUGINS, "").split(",")):
        importlib.import_module(plugin)
