"""SQL that others wrote, in tokens as PostgreSQL reads them, so that what is inserted changes no text of theirs."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Token:
    """A token of SQL: what kind it is, and its text, including quotes.

    The kinds are `name`, `quoted name`, `text`, `space` (also comments), `placeholder` (`$amount`), `parameter` (`$1`),
    `number` and `sign`, which is one character of anything else.
    """

    kind: str
    text: str

    @property
    def name(self) -> str | None:
        """The name in the catalog's form; None for a token that isn't a name."""
        if self.kind == "name":
            return self.text.lower()
        return self.text[1:-1].replace('""', '"') if self.kind == "quoted name" else None


# Quotes that don't end reach to the end of the text, as PostgreSQL reads them before it complains
_TOKEN: Final = re.compile(
    r"""
    (?P<space>\s+|--[^\n]*)
  | (?P<text>[eE]'(?:[^'\\]|\\.|'')*(?:'|\\?\Z)
            |(?:[uU]&|[bBxXnN])?'(?:[^']|'')*(?:'|\Z)
            |\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z))
  | (?P<quoted_name>(?:[uU]&)?"(?:[^"]|"")*(?:"|\Z))
  | (?P<parameter>\$\d+)
  | (?P<placeholder>\$[^\W\d]\w*)
  | (?P<number>\d[\w.]*)
  | (?P<name>[^\W\d][\w$]*)
  | (?P<sign>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE: Final = re.compile(r"/\*|\*/")
_DOT: Final = [Token("sign", ".")]


def tokens(sql: str) -> Iterator[Token]:
    """Yield the tokens of a text of SQL; joined they are the text."""
    at = 0
    while at < len(sql):
        if sql.startswith("/*", at):
            end = _end_of_comment(sql, at)
            yield Token("space", sql[at:end])
            at = end
        elif (found := _TOKEN.match(sql, at)) is not None:
            yield Token(str(found.lastgroup if found.lastgroup != "tag" else "text").replace("_", " "), found[0])
            at = found.end()


def _end_of_comment(sql: str, start: int) -> int:
    depth = 0
    for edge in _COMMENT_EDGE.finditer(sql, start):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(sql)


def with_placeholders(sql: str, values: Mapping[str, str]) -> str:
    """Return SQL with other SQL in the place of its placeholders, such as `$amount`, outside of quotes and comments.

    A placeholder that `values` doesn't have stays as it is.
    """
    return "".join(values.get(one.text, one.text) if one.kind == "placeholder" else one.text for one in tokens(sql))


def with_alias(sql: str, alias: str, value: str) -> str:
    """Return SQL with other SQL in the place of an alias, wherever it isn't the second part of a name."""
    parts: list[str] = []
    before = ""
    for one in tokens(sql):
        parts.append(value if one.name == alias and before != "." else one.text)
        before = before if one.kind == "space" else one.text
    return "".join(parts)


def columns_named(sql: str, alias: str, columns: Collection[str]) -> list[str]:
    """Return which of a table's columns a fragment over an alias of its rows names, each once, in their order.

    A column may be named without the alias. Where the row is used as a whole, as in `to_jsonb(r) ->> 'price'`, a text
    that equals a column's name counts, too.
    """
    found = [one for one in tokens(sql) if one.kind != "space"]
    named: list[str] = []
    has_whole_row = False
    for number, one in enumerate(found):
        before = found[number - 1].text if number else ""
        after = found[number + 1].text if number + 1 < len(found) else ""
        if before == ".":
            is_of_alias = number > 1 and found[number - 2].name == alias
            has_whole_row |= is_of_alias and one.text == "*"
            if is_of_alias and one.name is not None:
                named.append(one.name)
        elif one.name == alias:
            has_whole_row |= after != "."
        elif one.name is not None and after not in {"(", "."} and before != ":":
            named.append(one.name)
    if has_whole_row:
        named += [one.text[1:-1] for one in found if one.kind == "text"]
    return [name for name in dict.fromkeys(named) if name in columns]


def names_columns_of_alias(sql: str, alias: str, columns: Collection[str]) -> bool:
    """Return whether a fragment names columns by an alias alone: neither without it, nor the row as a whole."""
    found = [one for one in tokens(sql) if one.kind != "space"]
    names = [one.name for one in found]
    for number, name in enumerate(names):
        is_part = number > 0 and found[number - 1].text == "."
        if is_part or name is None:
            continue
        is_dotted = found[number + 1 : number + 2] == _DOT
        if name in columns or (name == alias and not (is_dotted and set(names[number + 2 : number + 3]) <= {*columns})):
            return False
    return True


def first_parameter(sql: str) -> str | None:
    """Return the first numbered parameter of a text of SQL, such as `$1`; None where it has none."""
    return next((one.text for one in tokens(sql) if one.kind == "parameter"), None)


def goes_beyond(sql: str) -> bool:
    """Return whether a text of SQL can't be one expression: it has a semicolon, or closes what it hasn't opened."""
    depth = 0
    for one in tokens(sql):
        if one.kind == "sign":
            depth += (one.text in "([") - (one.text in ")]")
            if depth < 0 or one.text == ";":
                return True
    return False


def outer_names(sql: str) -> list[str]:
    """Return the unquoted names and keywords of a statement that stand in no parentheses, in lower case."""
    depth = 0
    names: list[str] = []
    for one in tokens(sql):
        if one.kind == "sign":
            depth += (one.text == "(") - (one.text == ")")
        elif one.kind == "name" and depth == 0:
            names.append(one.text.lower())
    return names


def without_comments(sql: str) -> str:
    """Return SQL in which each comment is a space, so that it may stand before other SQL in a line."""
    is_comment = ("--", "/*")
    return "".join(" " if one.kind == "space" and one.text.startswith(is_comment) else one.text for one in tokens(sql))
