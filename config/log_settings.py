"""Settings of logging: the format and the level."""

from typing import Literal

from config.setting_group import SettingGroup, contract_field


class LogSettings(SettingGroup):
    """The format of log lines, and the lowest level that is written."""

    log_format: Literal["console", "json"] | None = contract_field(
        "LOG_FORMAT", None, "console or json. Unset: console on a terminal, json elsewhere"
    )
    log_level: Literal["debug", "info", "warning", "error"] = contract_field(
        "LOG_LEVEL", "info", "The lowest level that is logged: debug, info, warning or error"
    )
