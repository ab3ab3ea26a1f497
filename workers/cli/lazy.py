"""Command groups that know their commands by name, and import a command's module when it is called."""

import gc
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import typer
from typer._click.exceptions import UsageError
from typer._click.shell_completion import CompletionItem
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command
from typing_extensions import override

HELP: Final = ("-h", "--help")
_TYPE: Final = re.compile(r" <[\w\[\] ]+>$")
_RANGES: Final = (
    (re.compile(r"(\d+)<=x<=9223372036854775807"), r"at least \1"),
    (re.compile(r"(\d+)<=x<=(\d+)"), r"\1 to \2"),
    (re.compile(r"x>=(\d+)"), r"at least \1"),
)
NEAR: Final = 0.7
"""How similar (0 to 1) a word must be to a command's name to be suggested: `lst` suggests `list`, `frob` nothing."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its name, its one line in a group's help, and its function.

    Attributes:
        name: as people type it.
        summary: the first line of the function's docstring; a test checks that they agree.
        place: `module:function`.
        examples: command lines that call it, each shown in its help.
    """

    name: str
    summary: str
    place: str
    examples: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """A group of commands, and its line in the program's help, which is shown without importing the commands."""

    name: str
    summary: str
    commands: Sequence[Command]


Sections: TypeAlias = Mapping[str, Sequence[Command | Group]]
"""The entries of a help, by the titles of its sections."""


class CheckedCommand(TyperCommand):
    """A command whose errors name the command that was called, and whose help shows no types of Python's."""

    @override
    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]

    @override
    def format_options(self, ctx: Any, formatter: Any) -> None:
        records: dict[str, list[tuple[str, str]]] = {"argument": [], "option": []}
        for one in self.get_params(ctx):
            if record := one.get_help_record(ctx):
                name = _TYPE.sub("", record[0]).replace("<list[", "<").replace("]>", ">")
                records[one.param_type_name].append((name, _range_in_words(record[1])))
        for title, lines in (("Arguments", records["argument"]), ("Options", records["option"])):
            if lines:
                with formatter.section(title):
                    formatter.write_dl(lines)

    @override
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.allow_extra_args = True  # they are refused here, with our own message
        try:
            rest = super().parse_args(ctx, args)
        except UsageError as error:
            error.ctx = error.ctx or ctx
            raise
        if rest and not ctx.resilient_parsing:
            ctx.fail(f"one argument too many: {rest[0]!r}")
        return rest


class LazyGroup(TyperGroup):
    """A group that imports none of its commands to show its help, to complete a name or to report an error."""

    sections: Sections = MappingProxyType({})
    options: Mapping[str, str] = MappingProxyType({", ".join(HELP): "Show this help."})

    def __init__(self, **attributes: Any) -> None:
        # For the value of any option of a group, even --help's, typer imports pydantic
        super().__init__(rich_markup_mode=None, add_help_option=False, **attributes)

    @override
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] in HELP and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            ctx.exit()
        if not args and not ctx.resilient_parsing:
            ctx.fail(f"which one? {', '.join(self.list_commands(ctx))}")
        return super().parse_args(ctx, args)

    @override
    def list_commands(self, ctx: Any) -> list[str]:
        return [one.name for ones in self.sections.values() for one in ones]

    @override
    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        for ones in self.sections.values():
            for one in ones:
                if one.name == cmd_name:
                    return _group(one) if isinstance(one, Group) else _command(one)
        return None

    @override
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            near = get_close_matches(args[0], self.list_commands(ctx), n=1, cutoff=NEAR)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"there is no command {args[0]!r}{meant}")
        return super().resolve_command(ctx, args)

    @override
    def format_options(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Options"):
            formatter.write_dl(list(self.options.items()))
        self.format_commands(ctx, formatter)

    @override
    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, ones in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(one.name, one.summary) for one in ones])

    @override
    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        found = [one for ones in self.sections.values() for one in ones if one.name.startswith(incomplete)]
        return [CompletionItem(one.name, help=one.summary) for one in found]


def _range_in_words(text: str) -> str:
    for pattern, words in _RANGES:
        text = pattern.sub(words, text)
    return text


def _group(group: Group) -> LazyGroup:
    made = LazyGroup(name=group.name, help=group.summary)
    made.sections = {"Commands": group.commands}
    return made


def function_at(place: str) -> Callable[..., Any]:
    """Import the module of a place, `module:function`, and return the function."""
    module, _, name = place.partition(":")
    gc.disable()  # imported modules stay, and a garbage collection would take a sixth of the import's time
    try:
        function: Callable[..., Any] = getattr(import_module(module), name)
    finally:
        gc.enable()
    return function


def later(place: str) -> Callable[..., Any]:
    """Return a function that, when called, imports the function at a place, `module:function`, and calls it.

    A command's module uses it for work whose modules take long to import, since showing the command's help imports the
    command's module too.
    """

    def call(*arguments: Any, **named: Any) -> Any:
        return function_at(place)(*arguments, **named)

    return call


def _command(command: Command) -> Any:
    """Import a command's module and return typer's command for its function."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    examples = "\n".join(f"  {example}" for example in command.examples)
    epilog = f"\b\nExamples:\n{examples}" if examples else None
    app.command(command.name, cls=CheckedCommand, epilog=epilog)(function_at(command.place))
    return get_command(app)
