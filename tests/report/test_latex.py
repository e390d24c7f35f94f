"""Tables in LaTeX: compiled where it is installed, and measured with the widths of its own font everywhere."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from matplotlib.ft2font import FT2Font, LoadFlags

from bcdzoo.ops.conventions import DAGGER, Convention
from bcdzoo.report import reproduced, tables
from bcdzoo.report.latex import latex, tex
from bcdzoo.report.own_rows import rows_of_file
from bcdzoo.report.tables import render, rows
from bcdzoo.text_table import Column
from tests.ops.test_conventions import written
from tests.report.test_tables import run

TEXT = 345.0  # points: article's, in 10 points on US letter paper

NAMES = """
[[row]]
method = '[ours] a_b & 50% #1 $x$ {y} ~ ^ \\ `q` -- --- <z> |w| "t" ?` !`'
wa = "1/1"
top1 = 71.80
[[row]]
method = "*Größe café naïve Łódź ﬁ α-net Ω ×4 – — 网络 ☃ ½ x² “quoted”"
ops_dagger = 0.12
[[row]]
method = "AVeryLongNameWithoutAnySpaceThatGoesOnAndOnAndOnForALongWhileUntilItHasAHundredCharactersInAllOfIt12"
bops = 1000000
ops = 123456.7891
"""


def cases(folder: Path) -> Iterator[tuple[str, str]]:
    everything = [run(model=name, n=50_000) for name in ("bcdnet-a", "reactnet-a", "resnet-18", "bnext-l")]
    rules = Convention("ace$_", r"a description & more_of % it \ {", {"mac_bits": 1}, 1)
    own = rows_of_file(written(folder, NAMES), everything)
    for which in tables.SHIPPED:
        yield f"{which}", render(rows((which,), ()), "latex")
        yield f"{which}, measured", render(rows((which,), everything), "latex")
        yield f"{which}, dagger", render(rows((which,), (), DAGGER), "latex", None, DAGGER)
        yield f"{which}, own convention", render(rows((which,), (), rules), "latex", None, rules)
    yield "reproduced", reproduced.render(reproduced.reproduced(()), "latex")
    yield "own", render([*rows((1,), everything), *own], "latex")
    yield "every column", render([*rows((1,), everything), *own], "latex", list(tables.fields(None)))
    yield "three columns", render(own, "latex", ["top1", "method", "computed_ops"])
    yield "many", render(own * 60, "latex")


def test_no_table_is_wider_than_the_text_and_none_is_set_smaller_than_a_footnote(tmp_path: Path) -> None:
    for name, text in cases(tmp_path):
        floats = re.findall(r"\\begin\{table\}.*?\\end\{table\}", text, re.DOTALL)
        assert floats, name
        for one in floats:
            head = re.search(r"\\centering\\(foot\w+|script\w+)\\setlength\{\\tabcolsep\}\{(.*)pt\}", one)
            assert head, name
            scale = {"footnotesize": 0.86, "scriptsize": 0.8}[head[1]]
            panels = re.findall(r"\\begin\{tabular\}\{(.*?)\}\n(.*?)\\end\{tabular\}", one, re.DOTALL)
            for columns, body in panels:
                wide = natural_width(columns, body, scale, float(head[2]))
                assert wide <= TEXT, (name, wide, columns)


def natural_width(columns: str, body: str, scale: float, gap: float) -> float:
    """Width in points as TeX has it: the widest cell of each column, and the space between columns."""
    wider = [float(space) - 2 * gap for space in re.findall(r"@\{\\hspace\{([\d.]+)pt\}\}", columns)]
    kinds = re.findall(r"[lr]|p\{([\d.]+)pt\}", re.sub(r"@\{(\\hspace\{.*?\})?\}", "", columns))
    lines = [line.removesuffix(r"\\").removesuffix(r"\tabularnewline") for line in body.splitlines() if "&" in line]
    widths = [float(kind or 0) for kind in kinds]
    for line in lines:
        cells = re.split(r"(?<!\\)&", line)
        if r"\multicolumn" in line:
            continue
        assert len(cells) == len(kinds), line
        for place, cell in enumerate(cells):
            if not kinds[place]:
                widths[place] = max(widths[place], scale * points(cell.strip()))
    return sum(widths) + sum(wider) + 2 * gap * (len(kinds) - 1)


def points(cell: str) -> float:
    """Width of a cell in Computer Modern of 10 points."""
    cell = re.sub(r"\\rlap\{\$\^\{\\neq\}\$\}|\\ifdefined.*?\\fi\{\}", "", cell).replace(r"$^\dagger$", "+")
    cell = re.sub(r"\\text\w+\{\}|\\[\"'^~=u.rHvdc`]\{(\w)\}", r"\1x", cell).replace("--", "-")
    return sum(map(advance, re.sub(r"[\\{}$]", "", cell)))


@cache
def advance(character: str) -> float:
    font = FT2Font(str(Path(matplotlib.get_data_path(), "fonts/ttf/cmr10.ttf")))
    font.set_size(10, 72)
    return font.load_char(ord(character), LoadFlags.NO_HINTING).linearHoriAdvance / 65536


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_each_compiles_with_booktabs_alone_and_no_box_is_too_wide(tmp_path: Path) -> None:
    """All in one document: starting LaTeX is most of the time."""
    body = "\n\\clearpage\n".join(text for _, text in cases(tmp_path))
    document = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n" + body + "\n\\end{document}\n"
    (tmp_path / "t.tex").write_text(document, encoding="utf-8")
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, timeout=120)
    log = (tmp_path / "t.log").read_text(encoding="latin-1")
    assert done.returncode == 0, log[-2000:]
    assert not re.findall(r"Overfull.*|Float too large.*|.*Missing character.*", log)


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_a_box_that_is_too_wide_would_be_found(tmp_path: Path) -> None:
    line = "&".join(["123456789012"] * 9)
    table = rf"\begin{{tabular}}{{{'r' * 9}}}{line}\\\end{{tabular}}"
    (tmp_path / "t.tex").write_text(r"\documentclass{article}\begin{document}" + table + r"\end{document}")
    subprocess.run(["pdflatex", "-interaction=nonstopmode", "t.tex"], cwd=tmp_path, capture_output=True, timeout=60)
    assert "Overfull" in (tmp_path / "t.log").read_text(encoding="latin-1")
    assert natural_width("r" * 9, line + r"\\", 1, 6) > TEXT


@pytest.mark.parametrize(
    ("text", "out"),
    [
        ("a_b & 50% #1 $x$ {y}", r"a\_b \& 50\% \#1 \$x\$ \{y\}"),
        ("~ ^ \\ `", r"\textasciitilde{} \textasciicircum{} \textbackslash{} \textasciigrave{}"),
        ("a--b---c", "a-{}-b-{}-{}-c"),
        ("a–b", "a--b"),
        ("<>|", "$<$$>$$|$"),
        ("é Å ł ß", r"\'{e} \r{A} \l{} \ss{}"),
        ("e\u0301", r"\'{e}"),
        ("α Ω ο Λ", r"$\alpha$ $\Omega$ \ifdefined\Umathchar ο\else{\tiny U+03BF}\fi{} $\Lambda$"),
        ("10⁹ x₂", "10$^{9}$ x$_{2}$"),
        ("网", r"\ifdefined\Umathchar 网\else{\tiny U+7F51}\fi{}"),
        ("\x1b[1m\n", r"\textbackslash{}x1b[1m\textbackslash{}n"),
    ],
)
def test_every_character_has_its_form(text: str, out: str) -> None:
    assert tex(text) == out


def test_a_row_never_begins_with_what_the_row_before_would_swallow() -> None:
    body = latex("t", [Column("a")], [["[1pt]"], ["*"], ["x*[y]"]])
    assert [line for line in body.splitlines() if line.endswith(r"\\")] == [
        r"a \\", r"{[}1pt] \\", r"{*} \\", r"x*[y] \\"
    ]  # fmt: skip


def test_columns_without_a_value_are_left_out_and_named() -> None:
    text = render(rows((2,), ()), "latex")
    assert "% Left out, because empty: BOPs (1e9), FLOPs (1e8)," in text
    assert r"\multicolumn{1}{c}{BOPs}" in text and "measured" not in text.split(r"\begin{table}")[1]
    alone: list[dict[str, Any]] = [rows((2,), ())[1] | {"top1": None}]
    assert "Top-1" not in render(alone, "latex").split(r"\begin{table}")[1]
