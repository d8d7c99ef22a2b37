"""LaTeX of every table, compiled inside a two-column paper where there is a TeX; balanced either way."""

from __future__ import annotations

import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

import pytest

from bench.analysis.results import Results
from bench.analysis.tables import Table
from bench.plan.suite import Filters, entries, load_suite
from bench.report.contents import tables_of
from bench.report.render import TALLEST, render
from bench.report.sheet import verdicts_sheets
from tests.builders import EXPERIMENTS, PAPER, experiment, planned, record, three

PREAMBLE = r"\documentclass[twocolumn]{article}\usepackage{booktabs,graphicx,xcolor}\begin{document}Text."
TEX = next((name for name in ("latexmk", "tectonic") if shutil.which(name)), None)


@lru_cache
def texts() -> dict[str, str]:
    """Every table there is, those of the main suite over all data sets with holes, and the verdicts."""
    filters = Filters(seeds=(2021, 2022), backbone="smollm2-135m")
    runs = [(entry, record(entry.spec)) for entry in entries(load_suite("paper"), filters)]
    holed = Results([(entry, None if i % 7 == 0 else result) for i, (entry, result) in enumerate(runs)])
    made: list[Table] = [
        table
        for shown in (holed, planned(holes=True))
        for name in ("main", "full", "seeds", "ranks", "published")
        for table in tables_of(name, shown, "Generated: 100 % of #1_x & {y} ~ ^ \\ → ±.")
    ]
    made += [table for name in EXPERIMENTS for table in tables_of(name, experiment(name), "Generated.")]
    written = {f"{i}-{table.name}": render(table, "latex") for i, table in enumerate(made)}
    return written | {"claims": render(verdicts_sheets(three() * 8, PAPER)[0], "latex")}


def test_every_table_is_balanced() -> None:
    for text in texts().values():
        assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
        assert text.count(r"\begin{") == text.count(r"\end{")


def test_a_tall_table_is_continued_on_the_next_page() -> None:
    assert r"\caption{Ours beside published errors, continued.}" in texts()["4-published"]
    for text in texts().values():
        for part in text.split(r"\midrule")[1:]:
            assert part.partition(r"\bottomrule")[0].count(r"\\") <= TALLEST


@pytest.mark.skipif(TEX is None, reason="neither latexmk nor tectonic is installed")
def test_every_table_compiles_in_a_two_column_paper_and_fits_its_page(tmp_path: Path) -> None:
    names = []
    for name, text in texts().items():
        (tmp_path / f"{name}.tex").write_text(text, encoding="utf-8")
        names.append(f"\\input{{{name}}}\\clearpage")
    (tmp_path / "paper.tex").write_text("\n".join([PREAMBLE, *names, r"\end{document}"]), encoding="utf-8")
    words = {"latexmk": ["-pdf", "-interaction=nonstopmode", "-halt-on-error"], "tectonic": ["-k"]}[TEX or ""]
    ended = subprocess.run(
        [str(TEX), *words, "paper.tex"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stdout[-2000:]
    log = (tmp_path / "paper.log").read_text(errors="replace") if TEX == "latexmk" else ended.stderr
    assert "Float too large" not in log
    assert "Overfull \\hbox" not in log
