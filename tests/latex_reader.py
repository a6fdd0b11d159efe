"""A strict reader of the LaTeX that bnexp writes: it knows the commands that are used, counts the cells of tables, and refuses every
character that LaTeX would take otherwise. It stands in for TeX, which few machines have."""

import re

COMMANDS = {
    *("documentclass", "usepackage", "begin", "end", "section", "input", "clearpage", "centering", "small", "footnotesize", "caption"),
    *("label", "toprule", "midrule", "bottomrule", "addlinespace", "smallskip", "parbox", "linewidth", "tabcolsep", "dimexpr", "relax"),
    *("raggedright", "arraybackslash", "textbf", "quad", "pm", "leq", "geq", "includegraphics", "ldots", "textbackslash"),
    *("textasciitilde", "textasciicircum", "scriptsize", "setlength"),
}
TOKEN = re.compile(r"\\([a-zA-Z]+)|\\(.)|([{}$&%#_^~<>|\"])|\n", re.S)
KEPT = {"label", "input", "includegraphics"}
"""Commands whose argument is a name, in which an underscore is one."""


def read(text: str) -> list[list[list[str]]]:
    """The rows of each tabular of a LaTeX file, cell by cell; AssertionError where it would not compile."""
    assert text.isascii()
    text = re.sub(r"(?<!\\)%.*", "", text)
    names = re.compile(rf"\\({'|'.join(KEPT)})(\[[^\]]*\])?\{{[A-Za-z0-9_.:/-]+\}}")
    text = names.sub(lambda found: f"\\{found[1]}{{}}", text)
    depth, math, environments = 0, False, []
    for token in TOKEN.finditer(text):
        word, single, special = token.groups()
        if word:
            assert word in COMMANDS, word
            if word in ("begin", "end"):
                name = re.match(r"\{(\w+)\}", text[token.end() :])
                assert name, text[token.start() :][:40]
                if word == "begin":
                    environments.append(name[1])
                else:
                    assert environments.pop() == name[1]
                    assert depth == 0
            assert math == (word in ("pm", "leq", "geq"))
        elif single:
            assert single in "\\{}$&%#_*", token[0]
            assert single != "\\" or "tabular" in environments
            assert single != "\\" or not re.match(r"\s*[\[*]", text[token.end() :])  # it would be the line break's own
        elif special == "{":
            depth += 1
        elif special == "}":
            depth -= 1
            assert depth >= 0
        elif special == "$":
            math = not math
        elif special == "&":
            assert environments[-1] == "tabular"
            assert depth == 0
        elif special in ("<", ">"):
            before = text[: token.start()]
            assert math or before.endswith(("@{}", "\\relax}")), text[token.start() - 20 :][:40]
        elif special == "|":
            assert math
        elif special is None:  # the end of a line
            assert not math
        else:
            raise AssertionError(text[token.start() - 20 :][:40])
    assert (depth, math, environments) == (0, False, [])
    found = []
    for columns, body in re.findall(r"\\begin\{tabular\}\{@\{\}(.*)@\{\}\}\n(.*?)\\end\{tabular\}", text, re.S):
        width = len(re.findall(r">\{\\raggedright\\arraybackslash\}p|^[lr]|(?<=[lr])[lr]", columns))
        lines = re.sub(r"\\(toprule|midrule|bottomrule|addlinespace)\n", "\n", body).split("\\\\\n")
        assert lines.pop().strip() == ""
        rows = [[cell.strip() for cell in re.split(r"(?<!\\)&", line)] for line in lines]
        assert {len(row) for row in rows} == {width}
        found.append(rows)
    return found


def plain(cell: str) -> str:
    """What a cell shows."""
    for shown, written in ((" ", r"\quad "), ("", "{}"), ("-", "$-$"), ("±", r"$\pm$"), ("<=", r"$\leq$"), (">=", r"$\geq$"), ("<", "$<$")):
        cell = cell.replace(written, shown)
    return re.sub(r"\\textbf\{(.*)\}", r"\1", re.sub(r"\\([%_#&${}])", r"\1", cell)).strip()
