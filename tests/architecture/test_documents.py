"""Files and names in documents exist, and documents use the words of the glossary."""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from pipelines.settings import Settings, variable_name
from workers.cli.app import program

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
GLOSSARY = ROOT / "docs/glossary.md"
PATH = re.compile(r"(?<![\w/.])((?:bench|config|deploy|docs|models|pipelines|samples|tests|workers)/[\w./-]*[\w/])")
FILE = re.compile(r"(?<![\w/.-])((?:[\w-]+/)?[\w-]+\.(?:py|sql|md|lock|toml))\b")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def of_today(document):
    """Return a document's text without code of files that a reader is to write, which begins with their path."""
    return re.sub(r"^ *```python\n *# .*?^ *```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)


def code_of(document):
    """Return a document's pieces of code, each in one line."""
    text = of_today(document)
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```|^((?: {4}.*\n)+)", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line.strip() for block in blocks for part in block for line in part.splitlines()]
    return [
        " ".join(code.split())
        for code in [*lines, *re.findall(r"`([^`]+)`", re.sub("```.*?```", "", text, flags=re.DOTALL))]
    ]


OF_THE_READER = {"frames.toml", "PWD/frames.toml"}
"""Files that a document has its reader write."""

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


@every_document
def test_every_path_and_link_of_a_document_leads_somewhere(document):
    named = {ROOT / path for code in code_of(document) for path in PATH.findall(code)}
    linked = {document.parent / link for link in LINK.findall(document.read_text())}
    files = {name for code in code_of(document) for name in FILE.findall(code)} - OF_THE_READER

    assert {str(path) for path in named | linked if not path.exists()} == set()
    assert {name for name in files if not any((ROOT / "tests").rglob(name)) and not any(ROOT.rglob(name))} == set()


@every_document
def test_every_setting_of_a_document_is_one(document):
    known = {variable_name(field) for field in Settings.model_fields}
    named = {
        name for code in code_of(document) for name in re.findall(r"(?<![\w/*])DARKROOM_[A-Z_\d]*[A-Z\d]\b(?!\*)", code)
    }

    assert named - known == set()


@every_document
def test_every_command_and_option_of_a_document_is_one(document):
    calls = [
        call
        for code in code_of(document)
        for call in re.findall(r"(?<![\w./-])darkroom((?: [\w<>\[\]|/'=.+:@*-]+)+)", code)
    ]

    assert [call for call in calls if unknown_words(call.split())] == []


def unknown_words(words):
    """Return what of a call there isn't: a command, or an option; words in capitals stand for something."""
    group, command = program(), None
    for word in words:
        if command is None and not word.startswith("-"):
            if word.isupper():
                return []
            names = word.split("|")
            if not set(names) <= set(group.list_commands(None)):
                return names
            found = group.get_command(None, names[0])
            group, command = (found, None) if hasattr(found, "sections") else (group, found)
            if command is None and word == words[-1]:
                return []
    options = {option for one in (command.params if command else []) for option in one.opts} | {
        "--help",
        "-h",
        "--debug",
    }
    return [
        word
        for word in words
        if word.startswith("--") and word != "--" and word.split("=")[0] not in options | {"--version"}
    ]


@every_document
def test_every_program_and_target_of_a_document_is_one(document):
    code = code_of(document)
    modules = {name for one in code for name in re.findall(r"python -m ((?:bench|tests|pipelines|workers)[\w.]*)", one)}
    targets = {name for one in code for name in re.findall(r"^(?:\$ )?make ([a-z]+)", one)}
    rules = re.findall(r"^([a-z][a-z ]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)

    assert {name for name in modules if find_spec(name) is None} == set()
    assert targets <= {target for rule in rules for target in rule.split()}


@every_document
def test_every_table_and_function_of_a_document_is_one(document):
    named = {name for code in code_of(document) for name in re.findall(r"(?<![\w/.-])darkroom\.(\w+)", code)}

    assert {name for name in named if not re.search(rf"\b{name}\b", sql())} - {"local"} == set()


@cache
def sql():
    files = (path for suffix in ("sql", "py") for path in (ROOT / "models").rglob(f"*.{suffix}"))
    return "\n".join(path.read_text() for path in files)


def test_every_decision_is_in_the_index_once():
    index = (ROOT / "docs/decisions/README.md").read_text()
    records = sorted(path.name for path in (ROOT / "docs/decisions").glob("0*.md"))

    assert sorted(LINK.findall(index)) == sorted([*records, "../glossary.md"])
    assert [name for number, name in re.findall(r"\[(\d+)\]\(([^)]+)", index) if not name.startswith(number)] == []


def retired_words() -> list[str]:
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", GLOSSARY.read_text().split("| not | but |")[1], flags=re.MULTILINE)
    return [word for row in rows if "---" not in row for word in row.split(", ")]


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if path != GLOSSARY], ids=lambda path: path.name)
def test_documents_use_no_word_that_the_glossary_retired(document):
    text = re.sub(r"```.*?```|`[^`]*`", "", document.read_text(), flags=re.DOTALL)
    words = re.compile(rf"\b({'|'.join(retired_words())})s?\b", flags=re.IGNORECASE)

    assert words.findall(text) == []


def test_glossary_has_each_word_once():
    words = [
        word
        for row in re.findall(r"^\| ([^|]+) \|", GLOSSARY.read_text().split("## Words that")[0], flags=re.MULTILINE)
        if row not in {"word", "---"}
        for word in row.split(", ")
    ]

    assert len(words) > 50
    assert [word for word in words if words.count(word) > 1] == []


def test_word_by_which_contributors_are_told_to_choose_tests_chooses_some():
    words = set(re.findall(r" -k (\w+)", (ROOT / "CONTRIBUTING.md").read_text())) - {"acme"}  # a reader's own
    names = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))

    assert words
    assert [word for word in words if not re.search(rf"def test_\w*{word}", names)] == []
