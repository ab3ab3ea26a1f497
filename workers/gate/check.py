"""Check of the providers when a worker starts, so that a retired model is reported before the first job needs it."""

import asyncio
from collections.abc import Sequence

from config.logger import EventLogger
from pipelines.errors import ProviderNotConfiguredError, StageError
from pipelines.providers.provider import Provider

CHECK_S = 30.0

log = EventLogger(__name__)


async def check_providers(providers: Sequence[Provider]) -> None:
    """Log what is wrong with each provider. Nothing is bought, and no job waits for the check."""
    for provider in providers:
        try:
            async with asyncio.timeout(CHECK_S):
                await provider.check()
        except ProviderNotConfiguredError as error:
            log.error("provider_misconfigured", provider=provider.name, reason=str(error))  # noqa: TRY400 - no bug of ours
        except (StageError, TimeoutError) as error:
            log.warning("provider_unchecked", provider=provider.name, error=str(error) or type(error).__name__)
