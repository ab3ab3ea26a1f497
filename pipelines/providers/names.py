"""The names of providers, for those who only ask whether there is one: to import a provider takes half a second."""

from typing import Final

PROVIDER_NAMES: Final = ("gemini", "local", "openai")
"""As in PROVIDER. A test compares them with the registry."""
