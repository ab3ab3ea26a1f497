"""Which words ask for a picture of one colour, and for which colour."""

import pytest

from pipelines.providers.colour_words import ask_for_colour

RED, BLACK, WHITE, GREY, BLUE = (220, 20, 30), (0, 0, 0), (255, 255, 255), (120, 120, 120), (10, 20, 200)


@pytest.mark.parametrize(
    ("words", "colour"),
    [
        ("a plain red square", RED),
        ("A reddish rectangle, for an icon with no text", RED),
        ("a plain red square --ar 1:1 seed=7", RED),
        ("rgb(10, 20, 200) swatch", BLUE),
        ("Fill it all with #ff0000", RED),
        ("pure black", BLACK),
        ("a blank page", WHITE),
        ("crimson canvas", RED),
        ("a plain white background", WHITE),
        ("one single colour", BLUE),
        ("ein einfarbig rotes Quadrat", RED),
        ("un carré rouge uni", RED),
        ("grey card", GREY),
    ],
)
def test_words_that_name_a_colour_and_nothing_else_ask_for_it(words, colour):
    assert ask_for_colour(words, colour, has_picture=False)


@pytest.mark.parametrize(
    ("words", "colour"),
    [
        ("a plain red square", BLACK),
        ("a plain red square", GREY),
        ("a black cat", BLACK),
        ("a dark night sky", BLACK),
        ("A dog before a plain white wall", WHITE),
        ("A lighthouse", GREY),
        ("", BLACK),
        ("灯台", WHITE),
    ],
)
def test_words_that_name_a_thing_or_another_colour_dont(words, colour):
    assert not ask_for_colour(words, colour, has_picture=False)


def test_background_is_not_all_of_a_picture_that_is_to_be_changed():
    assert not ask_for_colour("make the background plain white", WHITE, has_picture=True)
    assert ask_for_colour("paint the whole picture black", BLACK, has_picture=True)
