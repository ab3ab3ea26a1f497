"""Messages for people about values of settings and options that pydantic refuses."""

from collections.abc import Mapping
from typing import Any, Final

_MESSAGES: Final = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be on or off",
    "bool_parsing": "must be on or off",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "string_type": "must be a text",
    "missing": "is missing",
    "extra_forbidden": "isn't known here",
    "too_short": "must name at least one",
    "mapping_type": "must be a JSON object",
    "dict_type": "must be a JSON object",
    "model_type": "must be a JSON object",
}
"""Our message for each type of pydantic error; `{...}` is filled from the error's context."""


def setting_message(detail: Mapping[str, Any]) -> str:
    """Return our message for one of the errors of a pydantic.ValidationError."""
    if detail["type"] == "value_error":  # one of our own validators raised it, so its message is ours
        return str(detail["msg"]).removeprefix("Value error, ")
    terms = {
        name: f"{value:,.10g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
        for name, value in detail.get("ctx", {}).items()
    }
    return _MESSAGES.get(detail["type"], "can't be used").format(**terms)
