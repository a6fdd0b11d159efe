"""Known vulnerabilities of constraints.txt, as pip-audit finds them, and the licences of what is installed beside bnexp."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.metadata import Distribution, distributions
from typing import Any

FOUND, UNREACHABLE = 1, 3
DATABASES = ("pypi", "osv")
"""Of pip-audit: PyPI's own, and Google's."""
ALLOWED = {
    *("0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "HPND", "ISC", "MIT", "MIT-CMU", "PSF-2.0"),
    *("MIT-0", "Unlicense", "Zlib"),
    "MPL-2.0",  # of a file's changes alone; nothing of it is copied here
}
"""SPDX names of licences that let an MIT-licensed program be used and passed on together with what has them."""
WORDS = {
    r"apache": "Apache-2.0",
    r"\bMIT\b(?!-CMU)": "MIT",
    r"\b(new |modified )?BSD\b": "BSD",
    r"python software foundation|\bPSF": "PSF-2.0",
    r"mozilla public license 2|MPL[- ]2": "MPL-2.0",
    r"\bISC\b": "ISC",
    r"\bA?L?GPL|general public": "GPL",
}
"""What older packages write instead of an SPDX name, in their classifiers or in one line of text."""


def licence(package: Distribution) -> str:
    """The licence that a package declares, as an SPDX expression where that can be told; else `unknown`."""

    def declared(field: str) -> list[str]:
        return package.metadata.get_all(field) or []

    if expressions := declared("License-Expression"):
        return expressions[0]
    classifiers = [one.split(" :: ")[-1] for one in declared("Classifier") if one.startswith("License :: ")]
    lines = [text.strip().partition("\n")[0] for text in declared("License")]
    for text in [*classifiers, *lines]:
        for word, name in WORDS.items():
            if re.search(word, text, re.I):
                return name
    return "unknown"


def allowed(expression: str) -> bool:
    """Whether an SPDX expression can be met with allowed licences: one side of an OR, both of an AND. A WITH only adds permissions."""
    plain = re.sub(r"\s+WITH\s+\S+", "", expression)
    while (inner := re.search(r"\(([^()]*)\)", plain)) is not None:
        plain = f"{plain[: inner.start()]}{'MIT' if allowed(inner[1]) else 'no'}{plain[inner.end() :]}"
    return any(all(one.strip() in ALLOWED for one in side.split(" AND ")) for side in plain.split(" OR "))


def check_licences(packages: Sequence[Distribution]) -> list[str]:
    """Prints the packages by licence; what has one that is not allowed, or none that is known."""
    found = defaultdict(list)
    for package in packages:
        found[licence(package)].append(package.name)
    for name, having in sorted(found.items(), key=lambda item: -len(item[1])):
        print(f"{len(having):4}  {name}: {', '.join(sorted(having, key=str.lower))}")
    return [f"{one}: {name}" for name, having in found.items() if not allowed(name) for one in having]


def vulnerabilities(report: Mapping[str, Any]) -> tuple[list[str], list[str], int]:
    """Of pip-audit's report: what is vulnerable, what the database does not know, and how many packages it was asked about."""
    known = report["dependencies"]
    found = [f"{one['name']} {one['version']}: {flaw['id']}" for one in known for flaw in one.get("vulns", ())]
    return found, [one["name"] for one in known if "skip_reason" in one], len(known)


def look_up(tool: str, database: str) -> Mapping[str, Any] | None:
    """pip-audit's report on constraints.txt; None where there is none."""
    options = ["--requirement", "constraints.txt", "--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    try:
        result = subprocess.run([tool, *options, "--vulnerability-service", database], capture_output=True, text=True, check=False)
        return dict(json.loads(result.stdout))
    except (OSError, ValueError):
        return None


def check_vulnerabilities(tool: str) -> int:
    """Asks one database after the other until one knows packages. An answer that knows none (a mirror without the data) is no answer."""
    for database in DATABASES:
        report = look_up(tool, database)
        if report is None:
            continue
        found, unknown, count = vulnerabilities(report)
        if len(unknown) == count:
            continue
        print(f"Vulnerabilities: {len(found)} known to the database {database} in {count - len(unknown)} packages.")
        for line in [*found, *(f"not known there, and so not checked: {name}" for name in unknown)]:
            print(f"  {line}")
        return FOUND if found else 0
    print("Vulnerabilities: NOT CHECKED, no database can be reached from here. CONTRIBUTING.md says how to check by hand.")
    return UNREACHABLE


def main() -> int:
    own = ("bnexp", "pip", "setuptools")  # the last two bring the others here, and are not in the tested set
    print("Licences of what is installed:")
    problems = check_licences([one for one in distributions() if one.name not in own])
    print(f"Licences: {len(problems)} to look at." + "".join(f"\n  {line}" for line in problems))
    code = check_vulnerabilities(sys.argv[1])
    return FOUND if problems else code


if __name__ == "__main__":
    sys.exit(main())
