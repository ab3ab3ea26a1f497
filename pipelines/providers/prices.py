"""Prices of provider calls, from the configured table."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

SIZES_PX: Final = {"1K": 1024, "2K": 2048, "4K": 4096}
"""Picture sizes by their names in the table of prices and in Gemini's `imageSize`, with the long side in pixels."""

_MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices in USD by `MODEL/what`.

    For a call that uses a model without a price, `unknown_usd` is counted, if such calls may be made at all.
    """

    prices: Mapping[str, float]
    unknown_usd: float | None = None

    def sizes(self, model: str) -> tuple[str, ...]:
        """Return the sizes that a model makes, smallest first.

        If the table has no price for a picture of this model, all sizes are returned.
        """
        return tuple(size for size in SIZES_PX if f"{model}/{size}" in self.prices) or tuple(SIZES_PX)

    def size_for(self, model: str, long_side_px: int) -> str:
        """Return the smallest size of a model with at least this long side, else its largest size."""
        sizes = self.sizes(model)
        return next((size for size in sizes if SIZES_PX[size] >= long_side_px), sizes[-1])

    def image_usd(self, model: str, long_side_px: int) -> Decimal:
        """Return the price of one picture in USD."""
        if not any(f"{model}/{size}" in self.prices for size in SIZES_PX):
            return self._unknown
        return self._price(model, self.size_for(model, long_side_px))

    def analysis_usd(self, model: str, *, prompt: int, output: int) -> Decimal:
        """Return the price, in USD, of an analysis with these units."""
        usd = self.units_usd(model, prompt=prompt, output=output)
        return self._unknown if usd is None else usd

    def units_usd(self, model: str, *, prompt: int = 0, output: int = 0, image: int = 0) -> Decimal | None:
        """Return the price of units in USD: of the prompt, of text that came back (thoughts too), and of pictures.

        The result is None if a kind of units has no price, or if there are no units. In these cases the caller counts
        the quoted price, so that no call is free.
        """
        used = {"in": prompt, "out": output, "image_out": image}
        counted = {what: count for what, count in used.items() if count}
        if not counted or any(f"{model}/{what}" not in self.prices for what in counted):
            return None
        return sum((count * self._price(model, what) for what, count in counted.items()), Decimal(0)) / _MILLION

    @property
    def _unknown(self) -> Decimal:
        return Decimal(str(self.unknown_usd or 0))

    def _price(self, model: str, what: str) -> Decimal:
        return Decimal(str(self.prices.get(f"{model}/{what}", 0)))
