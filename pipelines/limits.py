"""Limits of decoded pictures: one for pictures from users, one for answers of providers, which were paid for."""

from config.picture_settings import PictureSettings
from config.provider_settings import ProviderSettings
from pipelines.imaging.header import DecodeLimits


def upload_limits(settings: PictureSettings) -> DecodeLimits:
    """Return the limits for a user's picture."""
    return DecodeLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels)


def answer_limits(settings: ProviderSettings) -> DecodeLimits:
    """Return the limits for a provider's picture; the limits for uploads must not refuse a picture that was bought."""
    return DecodeLimits(max_bytes=settings.max_answer_bytes, max_pixels=settings.max_answer_pixels)
