"""Turn figures into parts of a page: light and dark, two widths, no `style` attribute, half the bytes. Pure; no torch.

The page's Content-Security-Policy names its style by hash, which blocks `style` attributes: each distinct one becomes
a class. Colours become variables with a light and a dark value, so that a page's own switch turns figures too.
"""

from __future__ import annotations

import colorsys
import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
from markupsafe import Markup
from matplotlib.colors import to_hex, to_rgb

from bench.report.figures.catalogue import Picture
from bench.report.figures.heatmap import MIDDLE, relative_luminance

GROUND = "#15181d"
"""The dark page's background, as in assets/page.css."""
DARK = {
    **{"#ffffff": GROUND, "#222222": "#e6e4de", "#6e6e6e": "#a3a6ac", "#9a9a9a": "#85888e", "#e3e3e3": "#2f343b"},
    **{"#ededed": "#2a2e35", "#f7f7f7": "#1b1f25", "#8c8c8c": "#8c8c8c", "#b5b5b5": "#565b63"},
    **{"#d55e00": "#e8702a", "#e69f00": "#e69f00", "#cc79a7": "#cc79a7", "#0072b2": "#3f93d8", "#56b4e9": "#9bd8ff"},
    **{"#009e73": "#2bb58a", "#000000": "#f4f4f4", "#8a8a8a": "#9b9b9b", "#332288": "#8d7bf0", "#882255": "#d1568f"},
    **{"#117733": "#3fae66", "#999933": "#b3b34d", "#44aa99": "#44aa99", "#aa4499": "#cf6cc0", "#661100": "#c8623f"},
    "#6699cc": "#6699cc",
}
"""Colour of style.py -> its twin on a dark ground. Of a model's colour it keeps the hue."""
READABLE = 4.5
"""Least contrast of text on a colour (WCAG 2.2, level AA)."""
SVG = "{http://www.w3.org/2000/svg}"
LINK = "{http://www.w3.org/1999/xlink}href"
COLOUR = re.compile(r"#[0-9a-f]{6}\b")
REFERENCE = re.compile(r"(?<=url\(#)[^)]+(?=\))")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?|[A-Za-z]")
DECIMALS = re.compile(r"-?\d+\.\d{2,}")
PAINTS = ("fill", "stroke")
"""Attributes that hold a colour."""
FONT = re.compile(r"font-family:[^;]*;?\s*")


class Inlined(NamedTuple):
    """Drawings for one page, and the rules that its style must have."""

    drawings: dict[str, tuple[Markup, Markup]]
    """Name of the picture -> its wide and its narrow <svg>."""
    style: str


def inlined(pictures: list[Picture]) -> Inlined:
    """Return the drawings of one page."""
    names = _Names()
    drawings = {
        picture.name: (
            _drawing(picture.files["svg"], "wide", picture.alt, names),
            _drawing(picture.narrow, "narrow", picture.alt, names),
        )
        for picture in pictures
    }
    return Inlined(drawings, names.style())


def dark(colour: str) -> str:
    """Return a colour's twin on a dark ground.

    A colour that is not of style.py is a scale's: its lightness turns over, and moves on until the twin of the black or
    white text on it can be read.
    """
    if colour in DARK:
        return DARK[colour]
    hue, lightness, saturation = colorsys.rgb_to_hls(*to_rgb(colour))
    lightness = 0.1 + 0.85 * (1 - lightness) ** 1.35
    black = relative_luminance(np.array(to_rgb(colour))) > MIDDLE
    text, step = (DARK["#000000"], -0.01) if black else (GROUND, 0.01)
    while contrast(twin := to_hex(colorsys.hls_to_rgb(hue, lightness, saturation)), text) < READABLE:
        lightness = min(1, max(0, lightness + step))
    return twin


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours (WCAG 2.2), 1 to 21."""
    low, high = sorted(relative_luminance(np.array(to_rgb(colour))) + 0.05 for colour in (one, other))
    return high / low


class _Names:
    """Gives classes to styles, variables to colours, and short ids that are unique on the page."""

    def __init__(self) -> None:
        self.classes: dict[str, str] = {}
        self.colours: dict[str, None] = {"#000000": None}
        self.ids = map("i{}".format, itertools.count())

    def class_of(self, style: str) -> str:
        """Return the class of a `style` text."""
        self.colours.update(dict.fromkeys(COLOUR.findall(style)))
        rule = COLOUR.sub(lambda colour: f"var(--c-{colour[0][1:]})", FONT.sub("", style).strip("; "))
        rule = re.sub(r"\s*([:;])\s*", r"\1", rule)
        return self.classes.setdefault(rule, f"f{len(self.classes)}")

    def style(self) -> str:
        """Return the rules of all drawings so far."""
        variables = "".join(f"--c-{each[1:]}:light-dark({each},{dark(each)});" for each in self.colours)
        font = '"DejaVu Sans",Verdana,Arial,sans-serif'  # as the figures were laid out with
        base = f"figure svg{{fill:var(--c-000000);font-family:{font};stroke-linejoin:round}}"
        rules = "".join(f".{name}{{{rule}}}" for rule, name in self.classes.items())
        return f":root{{{variables}}}\n{base}\n{rules}\n"


def _drawing(svg: bytes, kind: str, alt: str, names: _Names) -> Markup:
    """Return one drawing, with `alt` as its text for those who do not see it."""
    root = ElementTree.fromstring(svg)
    # 1. Drop what a page does not need, and name anew what is referred to.
    used = {each.get(LINK, "")[1:] for each in root.iter()} | {
        found for each in root.iter() for value in each.attrib.values() for found in REFERENCE.findall(value)
    }
    ids = {each.attrib["id"]: next(names.ids) for each in root.iter() if each.get("id") in used}
    _pruned(root)
    # 2. Shorten attributes.
    for element in root.iter():
        element.attrib = dict(_attributes(element, ids, names))
        element.tag = element.tag.removeprefix(SVG)
        element.text = element.text if element.tag in ("text", "tspan") else None
        element.tail = None
    root.attrib = {"viewBox": root.attrib["viewBox"], "class": kind, "role": "img", "aria-label": alt}
    return Markup(ElementTree.tostring(root, encoding="unicode", short_empty_elements=True))


def _pruned(element: Element) -> None:
    """Drop metadata, styles and the page's ground, and put the children of groups without attributes in their place."""
    kept: list[Element] = []
    for child in element:
        if child.tag in (f"{SVG}metadata", f"{SVG}style") or child.get("id") == "patch_1":
            continue
        _pruned(child)
        only_grouped = child.tag == f"{SVG}g" and not set(child.attrib) - {"id"}
        kept += list(child) if only_grouped else [child] if len(child) or child.tag != f"{SVG}defs" else []
    element[:] = kept


def _attributes(element: Element, ids: dict[str, str], names: _Names) -> Iterator[tuple[str, str]]:
    """Return the attributes of an element of the page."""
    own = {name: REFERENCE.sub(lambda found: ids[found[0]], value) for name, value in element.attrib.items()}
    style = "; ".join(
        filter(None, [own.pop("style", ""), *(f"{name}: {own.pop(name)}" for name in PAINTS if name in own)])
    )
    if style:
        yield "class", names.class_of(style)
    for name, value in own.items():
        if name == "id":
            yield from [("id", ids[value])] if value in ids else []
        elif name == LINK:
            yield "href", value if value.startswith("data:") else f"#{ids[value[1:]]}"
        elif name == "d":
            yield "d", shorter_path(value, 2 if own.get("id") in ids else 1)
        elif not value.startswith("rotate(-0 "):
            yield name, DECIMALS.sub(lambda number: _short(float(number[0]), 2), value)


def shorter_path(path: str, digits: int) -> str:
    """Return a path of absolute commands as relative ones; what rounding leaves does not add up."""
    parts: list[str] = []
    command, at, start = "", (0.0, 0.0), (0.0, 0.0)
    tokens = iter(NUMBER.findall(path))
    for token in tokens:
        if token in "zZ":
            parts, at = [*parts, "z"], start
            continue
        command, first = (token, next(tokens)) if token.isalpha() else ("L" if command == "M" else command, token)
        pairs = {"M": 1, "L": 1, "Q": 2, "C": 3}[command]
        numbers = [float(first), *(float(next(tokens)) for _ in range(2 * pairs - 1))]
        points = [(round(x, digits), round(y, digits)) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]
        steps = [_short(point[axis] - at[axis], digits) for point in points for axis in (0, 1)]
        parts.append(command.lower() + " ".join(steps))
        at = points[-1]
        start = at if command == "M" else start
    return "".join(_joined(parts)).replace(" -", "-")


def _joined(parts: list[str]) -> Iterator[str]:
    """Leave out the letter of a command that goes on."""
    before = ""
    for part in parts:
        goes_on = part[0] == before == "l" or (part[0] == "l" and before == "m")
        yield f" {part[1:]}" if goes_on else part
        before = part[0]


def _short(number: float, digits: int) -> str:
    """Return a number in as few characters as these decimals need."""
    text = f"{number:z.{digits}f}".rstrip("0").rstrip(".")
    return re.sub(r"^(-?)0\.", r"\1.", text)
