"""Errors of embedded services."""


class EmbeddedServiceError(Exception):
    """Raised when an embedded service can't be started or stopped; the message is one line that says what to do."""
