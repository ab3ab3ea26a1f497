"""The registry of providers, one line each; a test finds a provider on disk that isn't registered."""

from typing import Final

from pipelines.providers.description import ProviderDescription
from pipelines.providers.gemini.description import GEMINI
from pipelines.providers.local.description import LOCAL
from pipelines.providers.openai.description import OPENAI

PROVIDERS: Final[dict[str, ProviderDescription]] = {
    description.name: description
    for description in (
        GEMINI,
        LOCAL,
        OPENAI,
    )
}
"""The providers by their names in PROVIDER."""
