"""Files and names in documents exist, and documents use the words of the glossary."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
GLOSSARY = ROOT / "docs/glossary.md"
NAMED_PATH = re.compile(r"`((?:bench|config|docs|models|pipelines|samples|tests|workers)/[\w./-]*)`")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_and_link_of_a_document_leads_somewhere(document):
    text = document.read_text()
    named = {ROOT / name for name in NAMED_PATH.findall(text)}
    linked = {(document.parent / link) for link in LINK.findall(text)}

    assert {str(path) for path in named | linked if not path.exists()} == set()


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
    words = re.findall(r" -k (\w+)", (ROOT / "CONTRIBUTING.md").read_text())
    names = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))

    assert words
    assert [word for word in words if not re.search(rf"def test_\w*{word}", names)] == []
