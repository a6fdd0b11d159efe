"""The reference in docs/, presets and the switches of `bnexp/config/metrics.py`, which follow from what the code declares."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from reference_commands import commands
from reference_summary import summary_keys

import bnexp.metrics
from bnexp.config import DATASETS, METRICS, MODELS
from bnexp.config.explain import explain
from bnexp.config.fields import show
from bnexp.metrics.declaration import Metric
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


def networks() -> str:
    return table(("`model=`", "what"), ((f"`{name}`", model.summary) for name, model in MODELS.items()))


def config_keys() -> str:
    """A table for each group of keys. The choices that have a page or a table of their own are named there only."""
    groups: dict[str, list[Sequence[str]]] = {}
    for one in explain():
        group, dot, _ = one.key.rpartition(".")
        takes = " ".join(f"`{choice}`" for choice in one.choices) or one.takes
        groups.setdefault(group if dot else "", []).append(
            (f"`{one.key}`", one.meaning, takes, f"`{show(one.default)}`", f"`{one.example}`")
        )
    head = ("key", "meaning", "takes", "default", "example")
    return "\n".join(f"## {f'`{group}`' if group else 'The run itself'}\n\n{table(head, rows)}" for group, rows in groups.items())


def metrics() -> dict[str, Metric]:
    """Every metric by the name of its file: in the order of the config, with new ones as the last of their kind."""
    files = [module.name for module in pkgutil.iter_modules(bnexp.metrics.__path__)]
    modules = {name: importlib.import_module(f"bnexp.metrics.{name}") for name in [*METRICS, *files]}
    found = [(name, module.METRIC) for name, module in modules.items() if hasattr(module, "METRIC")]
    return dict(sorted(found, key=lambda item: ("probed", "sampled", "evaluated").index(item[1].kind)))


def kinds() -> str:
    return "".join(f'    "{name}": "{metric.kind}",\n' for name, metric in metrics().items())


def switches() -> str:
    return "".join(f"    {name}: bool = key({json.dumps(metric.summary)}, {metric.on})\n" for name, metric in metrics().items())


def metric_keys() -> str:
    named = [(name, keys) for name, metric in metrics().items() for keys in metric.keys]
    rows = ((f"`{name}/{keys.pattern}`", keys.meaning, keys.unit, keys.source) for name, keys in named)
    return table(("keys", "what", "unit", "source"), rows)


PARTS = {
    "norms": norms,
    "data sets": data_sets,
    "networks": networks,
    "commands": commands,
    "config keys": config_keys,
    "summary": lambda: table(("key", "type", "what"), summary_keys()),
    "metrics": metric_keys,
    "kinds of metrics": kinds,
    "switches of metrics": switches,
}
MARKED = re.compile(r"^( *(?:<!--|#) scripts/reference: ([\w ]+?)(?: -->)?\n).*?(?=^ *(?:<!--|#) end)", re.MULTILINE | re.DOTALL)


def files() -> Iterator[tuple[Path, str]]:
    """Every file with what it should hold."""
    for path in (*sorted((ROOT / "docs/reference").glob("*.md")), ROOT / "docs/metrics.md", ROOT / "bnexp/config/metrics.py"):
        yield path, MARKED.sub(lambda part: part[1] + PARTS[part[2]](), path.read_text())
    for name in DATASETS:
        yield ROOT / f"configs/data/{name}.yaml", f"name: {name}\n"
    for path in (ROOT / f"configs/model/{name}.yaml" for name in MODELS):  # which may have values of its own
        yield path, path.read_text() if path.exists() else f"name: {path.stem}\n"
    yield ROOT / "configs/metrics/off.yaml", "".join(f"{name}: false\n" for name, metric in metrics().items() if metric.on)
    full = [name for name, metric in metrics().items() if not metric.on and metric.kind != "evaluated"]
    yield ROOT / "configs/metrics/full.yaml", "".join(f"{name}: true\n" for name in full)


if __name__ == "__main__":
    for path, text in files():
        path.write_text(text)
