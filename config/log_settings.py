"""Settings of logging."""

from typing import Literal

from config.setting_group import SettingGroup, contract_field


class LogSettings(SettingGroup):
    """How lines are written, and which."""

    log_format: Literal["console", "json"] | None = contract_field(
        "LOG_FORMAT", None, "console or json. Unset: console on a terminal, json elsewhere"
    )
    log_level: Literal["debug", "info", "warning", "error"] = contract_field(
        "LOG_LEVEL", "info", "The least level that is logged: debug, info, warning or error"
    )
