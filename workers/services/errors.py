"""What goes wrong with embedded services."""


class EmbeddedServiceError(Exception):
    """An embedded service can't be had; the message is one line with the reason and what to do."""
