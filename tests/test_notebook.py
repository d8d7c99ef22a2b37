"""The committed output of docs/notebook.ipynb is what its cells print now."""

from __future__ import annotations

import base64
import io
import re

import matplotlib.image
import nbformat
import numpy as np
import pytest

from tests.committed import NOTEBOOK, executed

NUMBER = re.compile(r"\d+\.\d+")
Outputs = list[tuple[int, str, str, str]]


@pytest.fixture(scope="module")
def both() -> tuple[nbformat.NotebookNode, nbformat.NotebookNode]:
    """The notebook as committed, and executed in this environment."""
    return nbformat.read(NOTEBOOK, as_version=4), executed()


def outputs(notebook: nbformat.NotebookNode) -> Outputs:
    """Return (number of the cell, kind, MIME type, content) of all outputs, without the HTML forms."""
    found = []
    for number, cell in enumerate(notebook.cells):
        for each in cell.get("outputs", []):
            parts = each["data"] if "data" in each else {each.get("name", "error"): each.get("text", "")}
            found += [
                (number, each.output_type, kind, text) for kind, text in sorted(parts.items()) if kind != "text/html"
            ]
    return found


def same(committed: str, now: str) -> bool:
    """Say whether two texts differ at most by one in the last place of a fraction, as between two kinds of CPU."""
    pairs = zip(NUMBER.findall(committed), NUMBER.findall(now), strict=False)
    near = all(abs(float(a) - float(b)) < 1.5 * 10.0 ** -len(a.partition(".")[2]) for a, b in pairs)
    return near and NUMBER.sub("#", committed) == NUMBER.sub("#", now)


def test_texts_are_the_same_but_for_the_last_place_of_a_fraction() -> None:
    assert same("a 0.67  0.56", "a 0.68  0.56")
    assert not same("a 0.67  0.56", "a 0.69  0.56")
    assert not same("a 0.67", "b 0.67") and not same("a 0.67", "a 0.67 0.67") and not same("30 runs", "31 runs")


def test_every_cell_prints_what_is_committed(both: tuple[nbformat.NotebookNode, nbformat.NotebookNode]) -> None:
    committed, now = map(outputs, both)
    assert [each[:3] for each in committed] == [each[:3] for each in now]
    for (cell, _, kind, text), (*_, found) in zip(committed, now, strict=True):
        assert kind == "image/png" or same(text, found), f"cell {cell}: {found}\nIf it is meant: {__doc__}"
    assert not [each for each in now if each[1] == "error" or each[2] == "stderr"]


def test_every_figure_is_drawn(both: tuple[nbformat.NotebookNode, nbformat.NotebookNode]) -> None:
    for notebook in both:
        drawn = [text for _, _, kind, text in outputs(notebook) if kind == "image/png"]
        assert len(drawn) == 2
        for each in drawn:
            pixels = matplotlib.image.imread(io.BytesIO(base64.b64decode(each)))
            colours = np.unique((255 * pixels[..., :3]).astype(int) @ [65536, 256, 1])
            assert pixels.shape[0] > 200 and len(colours) > 50


def test_the_committed_output_holds_neither_time_nor_place(
    both: tuple[nbformat.NotebookNode, nbformat.NotebookNode],
) -> None:
    words = " ".join(text for _, _, kind, text in outputs(both[0]) if kind != "image/png")
    assert not re.search(r"/tmp|/home|/root|\d\d:\d\d|CPU|EPYC|Intel| s\b", words)
    assert all("execution" not in cell.metadata for cell in both[0].cells)
