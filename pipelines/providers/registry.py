"""The providers. One line each; a test finds one on disk that isn't here."""

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
"""By name, as in PROVIDER."""
