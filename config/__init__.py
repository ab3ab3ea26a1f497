"""Configuration: the settings read from the environment, logging, and values that Python and SQL share."""
