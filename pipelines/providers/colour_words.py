"""Whether a user's words ask for a picture of one colour, and whether that is the colour of the picture that came.

The words ask for one colour if their first clause has no other words than colours, words such as "plain", and the
surface that gets the colour. "A plain red square" does; "a black cat" and "put her before a plain white wall" don't.
"""

import colorsys
import re
from collections.abc import Iterator
from typing import Final

from PIL import ImageColor

from pipelines.imaging.answers import Colour

_COLOURS: Final[dict[str, str]] = {
    **{name: name for name in ImageColor.colormap},
    **dict.fromkeys(("schwarz", "noir", "noire", "negro", "negra", "pitch", "jet", "ink"), "black"),
    **dict.fromkeys(("weiss", "weiß", "blanc", "blanche", "blanco", "blanca", "blank", "empty", "leer"), "white"),
    **dict.fromkeys(("vide", "vacío", "vacía", "cream", "transparent"), "white"),
    **dict.fromkeys(("grau", "gris", "greyish", "silver", "charcoal"), "grey"),
    **dict.fromkeys(("rot", "rouge", "rojo", "roja", "scarlet", "vermilion", "ruby", "burgundy", "reddish"), "red"),
    **dict.fromkeys(("grün", "vert", "verte", "verde", "emerald", "jade", "greenish"), "green"),
    **dict.fromkeys(("blau", "bleu", "bleue", "azul", "cobalt", "sapphire", "ultramarine", "bluish"), "blue"),
    **dict.fromkeys(("gelb", "jaune", "amarillo", "amarilla", "lemon", "mustard"), "yellow"),
    **dict.fromkeys(("naranja", "amber", "apricot", "peach"), "orange"),
    **dict.fromkeys(("braun", "marron", "brun", "marrón", "sepia", "ochre", "umber"), "brown"),
    **dict.fromkeys(("rosa", "rose", "rosado"), "pink"),
    **dict.fromkeys(("lila", "violett", "mauve", "lilac", "morado"), "purple"),
    **dict.fromkeys(("türkis", "turquesa", "petrol"), "teal"),
}
"""Words for colours, each with its nearest CSS name; in English, and common ones in German, French and Spanish."""

_PLAIN_WORDS: Final = """
plain solid flat uniform single one all pure entirely completely totally wholly fully only just nothing but even
monochrome monochromatic unicolour unicolor unicolored unicoloured same dark light deep bright pale matte mid color
colour colors colours colored coloured tone shade hue of in with a an the and is be to as at on it its this that i want
need please give show me create draw generate render make paint fill turn into whole entire full
einfarbig einfarbige einfarbiges einfarbiger ein eine einen das die der nur ganz komplett rein reine reines farbe uni
unie une le la les tout toute entièrement couleur plein pleine seulement dunkel hell liso lisa sólido sólida un una el
todo toda puro pura solo completamente simple
"""
"""Words that name neither a thing nor a place."""

_ENDINGS: Final = ("es", "er", "en", "em", "e", "s")
"""Endings of adjectives in German, French and Spanish."""

_SURFACE_WORDS: Final = """
square rectangle image picture photo canvas frame tile swatch sample patch block card field colorfield surface sheet
page paper texture screen quadrat rechteck bild fläche seite blatt carré feuille cuadrado rectángulo imagen hoja página
"""
_GROUND_WORDS: Final = """
background backdrop wallpaper wall ground hintergrund hintergrundbild wand fond mur fondo pared
"""
"""Words for a surface behind something. They may be the whole picture, except if a picture is to be changed."""

_PLAIN: Final = frozenset(_PLAIN_WORDS.split())
_SURFACES: Final = frozenset(_SURFACE_WORDS.split())
_GROUNDS: Final = frozenset(_GROUND_WORDS.split())
_ANY_COLOUR: Final = frozenset({"color", "colour", "farbe", "couleur"})

_COLOUR_CODE: Final = re.compile(r"#[0-9a-f]{3,8}\b|(?:rgb|hsl|hsv)a?\([^)]{1,40}\)", re.IGNORECASE)
_CLAUSE_END: Final = re.compile(r"[.,;:!?\n]")
_PARAMETER: Final = re.compile(r"\S*[:=]\S+|--\w+(?:\s+[\d:.]+)?")
"""Matches parameters such as `--ar 16:9` and `seed=5`."""

_WORD: Final = re.compile(r"[^\W\d_]+")

_ACHROMATIC_LEVELS: Final = 30
_DARK_LEVELS: Final = 60
_NEAR_LEVELS: Final = 100
_NEAR_TURN: Final = 35 / 360


def ask_for_colour(words: str, colour: Colour, *, has_picture: bool) -> bool:
    """Return whether words ask for a picture of one colour, and `colour` may be called by its name.

    Args:
        words: the user's own words; empty if there are none.
        colour: the colour of the picture that came, sRGB.
        has_picture: whether the words are to change a picture, in which case a background's colour says nothing about
            the whole picture.
    """
    text = _PARAMETER.sub(" ", words.lower())
    named = list(_codes(text))
    clause = _CLAUSE_END.split(_COLOUR_CODE.sub(" ", text).strip(), maxsplit=1)[0]
    found = _WORD.findall(clause)
    surfaces = _SURFACES if has_picture else _SURFACES | _GROUNDS
    is_any = False
    for word in found:
        if (name := _colour_of(word)) is not None:
            named.append(ImageColor.getrgb(name)[:3])
        elif word in _ANY_COLOUR:
            is_any = True
        elif word not in _PLAIN and word not in surfaces:
            return False
    if not named:
        return is_any
    return any(_is_near(one, colour) for one in named)


def _codes(text: str) -> Iterator[Colour]:
    """Yield the colours that a text gives by number, such as `#ff0000`."""
    for code in _COLOUR_CODE.findall(text):
        try:
            red, green, blue = ImageColor.getrgb(code)[:3]
        except ValueError:
            continue
        yield red, green, blue


def _colour_of(word: str) -> str | None:
    """Return the CSS name of a word for a colour, with or without an adjective's ending."""
    if word in _COLOURS:
        return _COLOURS[word]
    for ending in _ENDINGS:
        if word.endswith(ending) and (stem := word.removesuffix(ending)) in _COLOURS and len(stem) > 2:  # noqa: PLR2004 - "re" is no colour
            return _COLOURS[stem]
    return None


def _is_near(named: Colour, came: Colour) -> bool:
    """Return whether a colour may be called by the name of another one.

    A name covers a wide range of colours, and models render a named colour freely.
    """
    if max(abs(one - other) for one, other in zip(named, came, strict=True)) <= _NEAR_LEVELS:
        return True
    if max(came) < _DARK_LEVELS or any(max(one) - min(one) <= _ACHROMATIC_LEVELS for one in (named, came)):
        return False
    named_hue, came_hue = (colorsys.rgb_to_hsv(*(level / 255 for level in one))[0] for one in (named, came))
    turn = abs(named_hue - came_hue)
    return min(turn, 1 - turn) <= _NEAR_TURN
