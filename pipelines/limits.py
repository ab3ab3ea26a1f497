"""Two limits of pictures: of what users send, and of what providers answer, which is paid for."""

from config.picture_settings import PictureSettings
from config.provider_settings import ProviderSettings
from pipelines.imaging.header import DecodeLimits


def upload_limits(settings: PictureSettings) -> DecodeLimits:
    """Return what a user's picture may cost."""
    return DecodeLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels)


def answer_limits(settings: ProviderSettings) -> DecodeLimits:
    """Return what a provider's picture may cost; no limit of uploads may refuse what was bought."""
    return DecodeLimits(max_bytes=settings.max_answer_bytes, max_pixels=settings.max_answer_pixels)
