"""The environment: settings, logging, embedded services."""
