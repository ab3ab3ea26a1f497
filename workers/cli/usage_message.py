"""Messages for usage errors: what is wrong with a command as it was typed."""

from difflib import get_close_matches
from typing import Any

import typer
from pydantic import ValidationError
from typer._click.exceptions import BadOptionUsage, BadParameter, MissingParameter, NoSuchOption

from config.setting_message import setting_message
from workers.cli.lazy import NEAR


def usage_message(error: typer.TyperException) -> str:
    """Return one line that says what is wrong, and which command shows help."""
    context = getattr(error, "ctx", None)
    place = "darkroom" if context is None else context.command_path
    return f"{_wrong(error, context)}; see `{place} --help`"


def _wrong(error: typer.TyperException, context: Any) -> str:
    match error:
        case MissingParameter():
            return f"{_named(error.param)} is missing"
        case BadParameter():
            return _bad(error)
        case NoSuchOption():
            if any(str(one.metavar).lstrip("[").startswith("-- ") for one in _options(context)):
                return f"there is no option {error.option_name}; what is for the other program comes after --"
            near = get_close_matches(error.option_name, error.possibilities or (), n=1, cutoff=NEAR)
            return f"there is no option {error.option_name}" + (f"; did you mean {near[0]}?" if near else "")
        case BadOptionUsage():
            flags = [one for one in _options(context) if getattr(one, "is_flag", False)]
            is_flag = any(error.option_name in one.opts for one in flags)
            return f"{error.option_name} takes no value" if is_flag else f"{error.option_name} needs a value"
        case _:
            return error.format_message().strip().rstrip(".")


def _bad(error: BadParameter) -> str:
    cause = error.__cause__
    if isinstance(cause, ValidationError):
        detail = cause.errors(include_url=False)[0]
        given = detail["input"]
        words = setting_message(detail).rstrip(".")
        return f"{_named(error.param)} {words}" if repr(given) in words else f"{_named(error.param)} {given!r}: {words}"
    return f"{_named(error.param)}: {error.message.strip().rstrip('.')}"


def _named(parameter: Any) -> str:
    """Return an option's name as it is typed, or an argument's name as in the help."""
    if parameter is None:
        return "a value"
    names = [name for name in parameter.opts if name.startswith("--")]
    return str(names[0] if names else parameter.metavar or parameter.name.upper())


def _options(context: Any) -> list[Any]:
    return [] if context is None else context.command.get_params(context)
