"""Tables and presets that follow from the declarations of norms, metrics and data sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bnexp.config import DATASETS, PROBED, SAMPLED, MetricsConfig
from bnexp.metrics import METRICS
from bnexp.norms import NORMS

ROOT = Path(__file__).parent.parent


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a bar in a cell is escaped."""
    escaped = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    lines = ["".join(f"| {cell} " if cell else "| " for cell in row) for row in (head, *escaped)]
    return "".join(f"{line}|\n" for line in (lines[0], "|---" * len(head), *lines[1:]))


def norms() -> str:
    return table(("`model.norm=`", "what", "source"), ((f"`{name}`", norm.summary, norm.source) for name, norm in NORMS.items()))


def data_sets() -> str:
    rows = []
    for name, spec in DATASETS.items():
        known = ("x".join(map(str, spec.shape)), f"{spec.train:,} + {spec.test:,}") if spec.shape else ("yours", "yours")
        rows.append((f"`{name}`", spec.summary, *known))
    return table(("`data=`", "what", "maps", "training + test"), rows)


def metric_keys() -> str:
    rows = ((f"`{name}/{keys.pattern}`", keys.meaning, keys.unit, keys.source) for name, metric in METRICS.items() for keys in metric.keys)
    return table(("keys", "what", "unit", "source"), rows)


TABLES = {"norms": norms, "data sets": data_sets, "metrics": metric_keys}


def files() -> Iterator[tuple[Path, str]]:
    """Every file with what it should hold."""
    for path in (ROOT / "README.md", ROOT / "docs/metrics.md"):
        before, *parts = path.read_text().split("<!-- scripts/reference: ")
        named = (part.split(" -->\n", 1) for part in parts)
        tables = (f"<!-- scripts/reference: {name} -->\n{TABLES[name]()}<!-- end{rest.split('<!-- end', 1)[1]}" for name, rest in named)
        yield path, before + "".join(tables)
    for name in DATASETS:
        yield ROOT / f"configs/data/{name}.yaml", f"name: {name}\n"
    on = MetricsConfig().on
    yield ROOT / "configs/metrics/off.yaml", "".join(f"{name}: false\n" for name in on)
    yield ROOT / "configs/metrics/full.yaml", "".join(f"{name}: true\n" for name in (*PROBED, *SAMPLED) if name not in on)


if __name__ == "__main__":
    for path, text in files():
        path.write_text(text)
