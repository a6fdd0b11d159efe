"""LaTeX: what is written is a document by its grammar, with the tables' numbers; figures have their fonts in them.

No TeX runs here: `latex_reader` refuses what LaTeX would.
"""

import io
import re
import zlib
from pathlib import Path

import pytest
from fontTools.ttLib import TTFont
from latex_reader import plain, read
from support import bn_in

from bnexp.analysis import Study
from bnexp.export.latex import LINE, as_latex, escaped
from bnexp.storage.group import Group
from bnexp.studies.stored import stored_study
from bnexp.tables.study import tables
from bnexp.tables.table import Table


@pytest.fixture(scope="module")
def study(group: Group) -> Study:
    return stored_study([group.id], group.runs_dir)[0]


@pytest.fixture(scope="module")
def folder(group: Group, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("latex") / "results"
    said = bn_in(group.runs_dir, "export", group.id, "--to", "latex", "--out", str(out))
    assert said.stdout.strip() == str(out)
    assert "pdflatex study.tex" in said.stderr
    return out


def test_the_tables_have_the_numbers_of_the_terminal(folder: Path, study: Study) -> None:
    (part,) = study.parts
    shown = tables(part, study.kind)
    assert len(shown) == 2
    for number, table in enumerate(shown, 1):
        text = (folder / f"table-{number}.tex").read_text()
        (rows,) = read(text)
        assert [[plain(cell) for cell in row] for row in rows] == [[cell.strip() for cell in row] for row in (table.columns, *table.rows)]
        assert f"\\label{{tab:compare-digits-bn-vs-none-{folder_id(folder)}-{number}}}" in text
    assert rows[0] == ["lr", "with BN", "without BN", "with BN $-$ without BN"]


def folder_id(folder: Path) -> str:
    found = re.search(r"vs-none-([0-9a-f]{8})", (folder / "table-1.tex").read_text())
    assert found
    return found[1]


def test_the_document_shows_every_table_and_figure(folder: Path) -> None:
    text = (folder / "study.tex").read_text()
    read(text)
    assert "\\usepackage{array,booktabs,graphicx}" in text
    assert {f"{name}.tex" for name in re.findall(r"\\input\{(.*?)\}", text)} == {path.name for path in folder.glob("table-*.tex")}
    drawn = {f"figures/{path.name}" for path in (folder / "figures").iterdir()}
    assert set(re.findall(r"\\includegraphics\[.*?\]\{(.*?)\}", text)) == drawn
    assert len(drawn) > 5


def test_the_fonts_of_figures_are_embedded(folder: Path) -> None:
    """TrueType with the glyphs in the file; no Type 3, which journals refuse, and no font that a reader would have to have."""
    for path in (folder / "figures").glob("*.pdf"):
        data = path.read_bytes()
        assert data.startswith(b"%PDF-")
        assert b"/Type3" not in data
        descriptors = re.findall(rb"<< /Type /FontDescriptor .*?>>", data, re.S)
        assert descriptors
        for descriptor in descriptors:
            (stream,) = re.findall(rb"/FontFile2 (\d+) 0 R", descriptor)
            (start,) = [found.end() for found in re.finditer(rb"\n%s 0 obj\n.*?stream\r?\n" % stream, data, re.S)]
            font = TTFont(io.BytesIO(zlib.decompressobj().decompress(data[start:])))
            assert len(font["glyf"].glyphs) > 3


def test_a_second_export_has_the_same_bytes(folder: Path, group: Group) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    bn_in(group.runs_dir, "export", group.id, "--to", "latex", "--out", str(folder), "--quiet")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("text", "tex"),
    [
        ("50 %, a_b & c#d {e} $f", r"50 \%, a\_b \& c\#d \{e\} \$f"),
        ("-0.20 to +0.42", "$-$0.20 to +0.42"),
        ("[-1.12, -0.62]", "[$-$1.12, $-$0.62]"),
        ("1e-05, conv-norm-relu, 10-20, --lrs", "1e-05, conv-norm-relu, 10-20, -{}-lrs"),
        ("p < 0.0001, p <= 0.05", r"p $<$ 0.0001, p $\leq$ 0.05"),
        ('C:\\x^2~"y" a|b', r"C:\textbackslash{}x\textasciicircum{}2\textasciitilde{}''y'' a$|$b"),
        ("98.61 ± 0.32\n\x1b[1m", r"98.61 $\pm$ 0.32  [1m"),
    ],
)
def test_text_is_escaped(text: str, tex: str) -> None:
    assert escaped(text) == tex


def test_any_cell_leaves_the_table_whole() -> None:
    """Cells that LaTeX would take as arguments of the line break, as columns or as comments."""
    words = ("[1, 2]", "*3", "a & b % c", "\\input{x}", "x" * 40, "$$", "{")
    table = Table(("", *words[1:]), tuple((word, *words[1:]) for word in words), "50 %", "Of #1", grouped=True)
    (rows,) = read(as_latex(table, "tab:x"))
    assert len(rows) == 1 + len(words)
    assert rows[1][0] == "{}[1, 2]"


def test_a_wide_table_wraps_and_a_narrow_one_does_not() -> None:
    narrow, wide = (Table(("", "a"), (("x", "1 2 " * repeated),)) for repeated in (2, LINE))
    assert r"{@{}lr@{}}" in as_latex(narrow, "tab:x")
    shares = [float(share) for share in re.findall(r"dimexpr ([\d.]+)", as_latex(wide, "tab:x"))]
    assert sum(shares) == pytest.approx(1, abs=0.002)
    assert shares[1] > 0.8
    dense = as_latex(Table(("", *"abcdefgh"), (("x", *["12.345678"] * 8),)), "tab:x")
    assert r"\scriptsize\setlength{\tabcolsep}{3pt}" in dense
    read(dense)
