"""The base of all groups of settings: names of variables, where values come from, and which values are secrets."""

import re
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from typing_extensions import override

from config.masking import url_password

PREFIX: Final = "DARKROOM_"
_HEADER_VALUE: Final = re.compile(r"[!-~]+")

Group = TypeVar("Group", bound="SettingGroup")


def contract_field(name: str, default: Any, meaning: str) -> Any:
    """Declare a setting whose variable has the name that other programs use for it, without our prefix."""
    return Field(default, validation_alias=name, description=meaning)


class SettingGroup(BaseModel):
    """Base of the settings of one subject. Frozen; only `read_settings` reads the environment, and only once."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        validate_default=True,
        hide_input_in_errors=True,
        defer_build=True,  # a single group is never instantiated, and building all validators would slow each command
    )

    @field_validator("*", mode="after")
    @classmethod
    def _goes_into_a_header(cls, value: Any) -> Any:
        """Refuse an API key that can't be sent in an HTTP header, so that the first call doesn't fail by it."""
        if isinstance(value, SecretStr) and not _HEADER_VALUE.fullmatch(value.get_secret_value()):
            raise ValueError("must be of ASCII letters, digits and signs, without spaces: it is sent in a header")
        return value

    @classmethod
    def variable_of(cls, field_name: str) -> str:
        """Return the name of the environment variable that sets a field."""
        alias = cls.model_fields[field_name].validation_alias
        return alias if isinstance(alias, str) else PREFIX + field_name.upper()

    def of(self, group: type[Group]) -> Group:
        """Return these same settings, typed as one of the groups that they consist of.

        Raises:
            TypeError: these settings don't include that group.
        """
        if not isinstance(self, group):
            raise TypeError(f"{type(self).__name__} doesn't have the settings of {group.__name__}")
        return self

    def secrets(self) -> tuple[str, ...]:
        """Return every secret, and the decoded password of every URL, for `SecretMask`."""
        values = [getattr(self, name) for name in type(self).model_fields]
        keys = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
        return (*keys, *(password for value in values if isinstance(value, str) and (password := url_password(value))))

    @override
    def __repr__(self) -> str:
        """Return the names of the fields that are set; their values may be secret, and tracebacks show this text."""
        return f"Settings({', '.join(sorted(self.model_fields_set))})"

    __str__ = __repr__
