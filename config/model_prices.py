"""What models cost, as far as it is known: defaults of a setting, each with its source and date."""

from typing import Final

# Gemini: prices copied from Google's price page by others, dated 2026-10-08 (an image by size; text and image tokens a
# million). OpenAI: its price page for gpt-image-1 at high quality, as announced in April 2025: check it before use.
MODEL_PRICES_USD: Final[dict[str, float]] = {
    "gemini-nano-banana-2.1/1K": 0.0336,
    "gemini-nano-banana-2.1/2K": 0.0504,
    "gemini-nano-banana-2.1/4K": 0.1134,
    "gemini-nano-banana-2.1/in": 1.5,
    "gemini-nano-banana-2.1/out": 7.5,
    "gemini-nano-banana-2.1/image_out": 30,
    "gemini-3-pro-image/1K": 0.134,
    "gemini-3-pro-image/2K": 0.134,
    "gemini-3-pro-image/4K": 0.24,
    "gemini-3-pro-image/in": 2,
    "gemini-3-pro-image/out": 12,
    "gemini-3-pro-image/image_out": 120,
    "gemini-3.1-flash-lite-image/1K": 0.0336,
    "gemini-3.1-flash-lite-image/in": 0.25,
    "gemini-3.1-flash-lite-image/out": 1.5,
    "gemini-3.1-flash-lite-image/image_out": 30,
    "gemini-3.8-flash/in": 0.75,
    "gemini-3.8-flash/out": 3.75,
    "gemini-3.5-flash/in": 1.5,
    "gemini-3.5-flash/out": 9,
    "gemini-3.5-flash-lite/in": 0.3,
    "gemini-3.5-flash-lite/out": 2.5,
    "gpt-image-1/1K": 0.25,
    "gpt-image-1/in": 10,
    "gpt-image-1/out": 40,
    "gpt-image-1/image_out": 40,
}
"""MODEL/1K, /2K, /4K: USD for a picture of that size; MODEL/in, /out, /image_out: USD for a million units."""

BUDGETS: Final = frozenset(
    {f"{whose}_{unit}" for whose in ("total", "day", "user_day", "anonymous_day") for unit in ("usd", "calls")}
    | {"free_user_day_calls"}
)

RATES: Final = frozenset(
    {"requests_per_minute", "requests_per_day", "images_per_minute", "images_per_day", "concurrency"}
    | {"breaker_failures", "breaker_s"}
)
