"""Settings that are read and checked but have no effect in this release; each process warns of them at its start."""

from collections.abc import Mapping

from config.logger import EventLogger
from pipelines.settings import Settings, variable_name

log = EventLogger(__name__)


def unbuilt_settings(settings: Settings) -> Mapping[str, str]:
    """Return, by field name, what is wrong with settings that have no effect; empty if none is set."""
    found = {}
    if settings.user_caps:
        found["user_caps"] = f"{variable_name('user_caps')} has no effect yet: no user's running jobs are bounded"
    return found


def warn_of_unbuilt(settings: Settings) -> None:
    """Log a warning for each setting that has no effect; each process calls this once, at its start."""
    for name, reason in unbuilt_settings(settings).items():
        log.warning("setting_without_effect", setting=variable_name(name), reason=reason)
