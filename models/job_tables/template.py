"""SQL templates: blocks that are repeated for each job table, and names for what differs between tables.

    --: each job table
    UPDATE {{table}} j SET ... WHERE {{is unfinished j}};
    --: end

A block is repeated for each table of the registry, in its order; `--: each job table, UNION ALL between` also puts a
line between two repetitions. `--: if a job table is paid in tokens` begins a block that stands once if this holds for
a table, and `--: if no job table ...` one that stands if it holds for none; no block is within another. In a repeated
block `{{fact}}` is a fact of its table, `{{fact j}}` one over an alias of its row, and `{{fact from X}}` is built from
the text X. A line that holds only a fact is left out where the fact is empty. Elsewhere `{{fact}}` is a fact of all
tables, and `{{fact of X}}` is chosen by the job type X, with an error for a type that no table has.
`models.job_tables.facts` defines the facts; the caller gives values of config, such as `{{default tier}}`, which may
stand anywhere.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from models.job_tables import facts
from models.job_tables.table import JobTable

_BLOCK: Final = re.compile(
    r"^(?P<indent> *)--: (?P<form>each|if a|if no) job table(?P<which> \w[^,\n]*)?(?:, (?P<between>[^\n]*) between)?\n"
    r"(?P<body>.*?)^ *--: end\n",
    re.MULTILINE | re.DOTALL,
)
_FACT: Final = re.compile(r"\{\{(?P<name>[a-z ]+?)(?: (?P<subject>(?:of|from) [^{}]+|[a-z]|NEW|OLD))?\}\}")
_LINE_OF_FACT: Final = re.compile(r"^(?P<indent> *)(?P<fact>\{\{[^{}]*\}\})\n", re.MULTILINE)


def render(template: str, tables: Sequence[JobTable], terms: Mapping[str, str] | None = None) -> str:
    """Return the SQL of a template for some job tables. `terms` are texts that a template may ask for by name.

    Raises:
        KeyError: the template asks for a fact that doesn't exist.
        ValueError: the syntax of a block or a fact is wrong.
    """
    terms = terms or {}
    repeated = _BLOCK.sub(lambda found: _repeated(found, tables, terms), template)
    text = _filled(repeated, lambda found: _of_all(found, tables, terms))
    if (left := re.search(r"--: .*|\{\{.*", text)) is not None:
        raise ValueError(f"{left[0][:80]!r} is neither a block nor a fact")
    return text


def _repeated(block: re.Match[str], tables: Sequence[JobTable], terms: Mapping[str, str]) -> str:
    chosen = [table for table in tables if facts.is_chosen(table, (block["which"] or "").strip(), tables)]
    if block["form"] != "each":
        return block["body"] if bool(chosen) == (block["form"] == "if a") else ""
    between = f"{block['indent']}{block['between']}\n" if block["between"] else ""
    return between.join(_of_table(block["body"], table, tables, terms) for table in chosen)


def _of_table(body: str, table: JobTable, tables: Sequence[JobTable], terms: Mapping[str, str]) -> str:
    def one(found: re.Match[str]) -> str:
        if found["name"] in terms or (found["subject"] or "").startswith("of "):
            return found[0]  # of all tables: `_of_all` inserts it
        return facts.fact(table, found["name"], found["subject"], tables)

    return _filled(body, one)


def _filled(template: str, one: Callable[[re.Match[str]], str]) -> str:
    """Insert facts in their places.

    A fact alone in its line is indented as a whole, or its line is removed if it is empty.
    """

    def line(found: re.Match[str]) -> str:
        text = _FACT.sub(one, found["fact"])
        return "".join(f"{found['indent']}{part}\n" if part else "\n" for part in text.splitlines())

    return _FACT.sub(one, _LINE_OF_FACT.sub(line, template))


def _of_all(found: re.Match[str], tables: Sequence[JobTable], terms: Mapping[str, str]) -> str:
    if found["subject"] is None and found["name"] in terms:
        return terms[found["name"]]
    subject = found["subject"] or ""
    return facts.fact_of_all(tables, found["name"], subject.removeprefix("of ") if subject else None)
