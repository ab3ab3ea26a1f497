"""What every group of settings has: where its values come from, how its variables are named, and what is a secret."""

from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from typing_extensions import override

from config.masking import url_password

PREFIX: Final = "DARKROOM_"

Group = TypeVar("Group", bound="SettingGroup")


def contract_field(name: str, default: Any, meaning: str) -> Any:
    """A variable that other programs know by the same name, so without our prefix."""
    return Field(default, validation_alias=name, description=meaning)


class SettingGroup(BaseModel):
    """The settings of one subject. Frozen; `read_settings` reads the environment, and nothing is read behind it."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        validate_default=True,
        hide_input_in_errors=True,
        defer_build=True,  # a group on its own is never made: each command would pay for the validators of all of them
    )

    @classmethod
    def variable_of(cls, field_name: str) -> str:
        """The environment variable of a field."""
        alias = cls.model_fields[field_name].validation_alias
        return alias if isinstance(alias, str) else PREFIX + field_name.upper()

    def of(self, group: type[Group]) -> Group:
        """Return these settings as one of the groups that they are made of.

        Raises:
            TypeError: they aren't made of it.
        """
        if not isinstance(self, group):
            raise TypeError(f"{type(self).__name__} doesn't have the settings of {group.__name__}")
        return self

    def secrets(self) -> tuple[str, ...]:
        """Every secret and every password in a URL, decoded, for `SecretMask`."""
        values = [getattr(self, name) for name in type(self).model_fields]
        keys = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
        return (*keys, *(password for value in values if isinstance(value, str) and (password := url_password(value))))

    @override
    def __repr__(self) -> str:
        """Name the set fields only: the values hold passwords, and this ends up in tracebacks."""
        return f"Settings({', '.join(sorted(self.model_fields_set))})"

    __str__ = __repr__
