"""What calls cost, by the configured table of prices."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

SIZES_PX = {"1K": 1024, "2K": 2048, "4K": 4096}
"""Names of picture sizes in the table of prices and in Gemini's `imageSize`, and their long sides."""

_MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices by `MODEL/what`, in USD; a model that isn't there costs nothing that we know of."""

    prices: Mapping[str, float]

    def knows(self, model: str) -> bool:
        """Say whether there is any price of a model."""
        return any(name.startswith(f"{model}/") for name in self.prices)

    def sizes(self, model: str) -> tuple[str, ...]:
        """Return the sizes that a model makes, smallest first; every one if the table says nothing of it."""
        return tuple(size for size in SIZES_PX if f"{model}/{size}" in self.prices) or tuple(SIZES_PX)

    def size_for(self, model: str, long_side_px: int) -> str:
        """Return the smallest size of a model that has this long side, else its largest."""
        sizes = self.sizes(model)
        return next((size for size in sizes if SIZES_PX[size] >= long_side_px), sizes[-1])

    def image_usd(self, model: str, long_side_px: int) -> Decimal:
        """Return the price of one picture."""
        return self._price(model, self.size_for(model, long_side_px))

    def units_usd(self, model: str, *, prompt: int = 0, output: int = 0, image: int = 0) -> Decimal:
        """Return the price of units: of the prompt, of text that came back (thoughts too), and of pictures."""
        return (
            prompt * self._price(model, "in")
            + output * self._price(model, "out")
            + image * self._price(model, "image_out")
        ) / _MILLION

    def _price(self, model: str, what: str) -> Decimal:
        return Decimal(str(self.prices.get(f"{model}/{what}", 0)))
