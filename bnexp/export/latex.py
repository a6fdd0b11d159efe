"""A study for a paper: its tables with booktabs, its figures as PDF, and a document that shows all of them."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from bnexp import __version__
from bnexp.analysis import Study
from bnexp.base.files import atomic_write, make_folder
from bnexp.plots import Picture
from bnexp.plots.style import own_style
from bnexp.report import chapters
from bnexp.tables.marks import MARK
from bnexp.tables.study import tables, title
from bnexp.tables.table import LEFT, Table

LINE = 75
"""Characters of `small` text on a line of LaTeX's `article`; a wider table has columns that wrap."""
MINUS = "\N{MINUS SIGN}"
DEFAULT, DENSE = r"\small", r"\scriptsize\setlength{\tabcolsep}{3pt}"
"""The second is for a table whose longest words alone are wider than a line."""
SPECIAL = {
    **{letter: f"\\{letter}" for letter in "{}$&%#_"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", '"': "''", "…": r"\ldots{}"},
    **{"<": "$<$", ">": "$>$", "|": "$|$", "±": r"$\pm$", "≥": r"$\geq$", "≤": r"$\leq$", MINUS: "$-$"},
}
GAP = 2
"""Characters between two columns."""
ALIKE = 6
"""Floats between two page breaks: LaTeX holds back only so many that it found no place for."""
HEAD = r"""\documentclass{article}
\usepackage{array,booktabs,graphicx}
\begin{document}
"""


def write_latex(study: Study, name: str, out: Path) -> list[Path]:
    """Writes `table-1.tex`, ..., each for `\\input` in a paper with the packages array and booktabs; `figures/*.pdf`; and `study.tex`, a
    document with all of them, to be compiled in its folder."""
    figures = out / "figures"
    make_folder(figures)
    files: dict[str, str] = {}
    body: list[str] = []
    drawn: list[Path] = []
    for part, chapter in zip(study.parts, chapters(study), strict=True):
        body += [f"\\section*{{{escaped(title(part) or study.title)}}}", *map(escaped, part.answer)]
        for table in (table for table in tables(part, study.kind) if table.rows):
            number = len(files) + 1
            files[f"table-{number}.tex"] = as_latex(table, f"tab:{name}-{number}")
            body.append(f"\\input{{table-{number}}}")
        body += [f"Note: {escaped(note)}" for note in part.notes]
        for index, picture in enumerate(chapter.pictures):
            drawn.append(save_pdf(picture, figures))
            body += [r"\clearpage"] * (index % ALIKE == 0) + [_float(picture, name)]
        body.append(r"\clearpage")
    files["study.tex"] = HEAD + "\n\n".join(body) + "\n\\end{document}\n"
    for file, text in files.items():
        with atomic_write(out / file) as stream:
            stream.write(f"% Written by bnexp {__version__} export of {name}; the next export replaces this file.\n{text}".encode())
    return [*(out / file for file in files), *drawn]


def as_latex(table: Table, label: str) -> str:
    """A table as a float; the best cells are bold. The columns of a table that is too wide for a line wrap, as wide as their texts need."""
    rows = [[_cell(text) for text in row] for row in table.rows]
    lines = []
    for index, row in enumerate(rows):
        if table.grouped and index and table.rows[index][0] != table.rows[index - 1][0]:
            lines.append(r"    \addlinespace")
        lines.append(f"    {' & '.join(row)} \\\\")
    below = (
        ["", r"  \smallskip", f"  \\parbox{{\\linewidth}}{{\\footnotesize {escaped(table.caption.rstrip('.'))}.}}"] if table.caption else []
    )
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            rf"  \centering{DENSE if _is_dense(table) else DEFAULT}",
            f"  \\caption{{{escaped(table.title)}}}",
            f"  \\label{{{label}}}",
            f"  \\begin{{tabular}}{{@{{}}{_columns(table)}@{{}}}}",
            r"    \toprule",
            f"    {' & '.join(map(_first, map(escaped, table.columns)))} \\\\",
            r"    \midrule",
            *lines,
            r"    \bottomrule",
            r"  \end{tabular}",
            *below,
            r"\end{table}",
            "",
        ]
    )


def _columns(table: Table) -> str:
    most = [max(map(len, column)) for column in _texts(table)]
    if sum(most) + GAP * len(most) <= LINE:
        return "".join("l" if name in LEFT else "r" for name in table.columns)
    least = _longest_words(table)
    left = max(0, LINE - GAP * len(most) - sum(least)) / max(1, sum(most) - sum(least))
    widths = [short + left * (long - short) + GAP for short, long in zip(least, most, strict=True)]
    shares = [width / sum(widths) for width in widths]
    return "".join(rf">{{\raggedright\arraybackslash}}p{{\dimexpr {share:.3f}\linewidth-2\tabcolsep\relax}}" for share in shares)


def _is_dense(table: Table) -> bool:
    return sum(_longest_words(table)) + GAP * len(table.columns) > LINE


def _longest_words(table: Table) -> list[int]:
    return [max((len(word) for text in column for word in text.split()), default=1) for column in _texts(table)]


def _texts(table: Table) -> list[tuple[str, ...]]:
    """Column by column, with its name."""
    return list(zip(table.columns, *table.rows, strict=True))


def _cell(text: str) -> str:
    inner = escaped(text.lstrip(" "))
    indent = r"\quad " if text.startswith(" ") else ""
    return indent + (f"\\textbf{{{inner}}}" if text.startswith(MARK) else _first(inner))


def _first(text: str) -> str:
    """A cell that the line break before it does not take for its own argument."""
    return f"{{}}{text}" if text.startswith(("[", "*")) else text


def escaped(text: str) -> str:
    """Text for LaTeX, in one line: its special characters, and a minus before a number or between two arms."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    line = line.replace("<=", "≤").replace(">=", "≥")
    line = re.sub(r" - |(?<![\w.)\]-])-(?=[\d.])", lambda found: found[0].replace("-", MINUS), line)
    line = "".join(SPECIAL.get(letter, letter) for letter in line)
    return line.replace("--", "-{}-")


def save_pdf(picture: Picture, folder: Path) -> Path:
    """Writes `<name>.pdf` with the letters it uses as an embedded TrueType font, which journals ask for; the same bytes each time."""
    path = folder / f"{picture.name}.pdf"
    with own_style({"pdf.fonttype": 42}), warnings.catch_warnings(), atomic_write(path) as file:
        warnings.filterwarnings("ignore", "Glyph")  # a letter that the font lacks shows as a box
        picture.figure.savefig(file, format="pdf", metadata={"Title": picture.title, "Creator": "bnexp", "CreationDate": None})
    return path


def _float(picture: Picture, name: str) -> str:
    caption = " ".join(escaped(text) for text in (f"{picture.title.rstrip('.')}.", picture.finding, picture.caption) if text)
    return (
        "\\begin{figure}[htbp]\n  \\centering\n"
        f"  \\includegraphics[width=0.8\\linewidth]{{figures/{picture.name}.pdf}}\n"
        f"  \\caption{{{caption}}}\n  \\label{{fig:{name}-{picture.name}}}\n\\end{{figure}}"
    )
