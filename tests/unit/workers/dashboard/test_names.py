"""Names as segments of URLs."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.dashboard.names import name_of, segment

TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), min_size=1)


@given(TEXT)
def test_name_comes_back_from_its_segment(name: str) -> None:
    assert name_of(segment(name)) == name


@given(TEXT)
def test_segment_needs_no_encoding_and_is_no_folder(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_.~:-]+", segment(name))
    assert segment(name) not in {".", ".."}


def test_plain_id_stays_as_it_is() -> None:
    assert segment("cm3k9_-.A") == "cm3k9_-.A"


def test_name_with_a_table_shows_the_table() -> None:
    assert segment("frames/7") == "frames:7"
    assert segment("frames/a b") == "frames:~YSBi"
    assert segment("shop.frames/7") == "shop.frames:7"


@pytest.mark.parametrize("segment_", ["~", "~a", "~AA", "~////", "a b", "é", "x:y:z z", ":7", "~gICA"])
def test_segment_that_no_name_has_is_refused(segment_: str) -> None:
    with pytest.raises(ValueError, match="name"):
        name_of(segment_)
