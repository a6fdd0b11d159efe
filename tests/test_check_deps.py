"""scripts/check-deps: which licences pass, and what counts as an answer about vulnerabilities."""

import json
import subprocess
import sys
from importlib.metadata import Distribution
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture(autouse=True)
def on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


def package(folder: Path, *lines: str) -> Distribution:
    place = folder / f"p{len(list(folder.iterdir()))}-1.dist-info"
    place.mkdir()
    (place / "METADATA").write_text("\n".join(["Metadata-Version: 2.4", "Name: p", "Version: 1", *lines, "", ""]))
    return Distribution.at(place)


@pytest.mark.parametrize(
    ("line", "name", "passes"),
    [
        ("License-Expression: MIT", "MIT", True),
        ("License-Expression: GPL-3.0-only", "GPL-3.0-only", False),
        ("License-Expression: GPL-3.0-only OR MIT", "GPL-3.0-only OR MIT", True),
        ("License-Expression: (GPL-3.0-only OR MIT) AND Apache-2.0", "(GPL-3.0-only OR MIT) AND Apache-2.0", True),
        ("License-Expression: Apache-2.0 AND AGPL-3.0-only", "Apache-2.0 AND AGPL-3.0-only", False),
        ("License-Expression: Apache-2.0 WITH LLVM-exception", "Apache-2.0 WITH LLVM-exception", True),
        ("Classifier: License :: OSI Approved :: BSD License", "BSD", True),
        ("Classifier: License :: OSI Approved :: GNU Lesser General Public License v3 (LGPLv3)", "GPL", False),
        ("License: 3-Clause BSD License", "BSD", True),
        ("License: Proprietary", "unknown", False),
        ("Summary: says nothing", "unknown", False),
    ],
)
def test_a_licence_passes_or_is_listed(tmp_path: Path, line: str, name: str, passes: bool) -> None:
    from check_deps import allowed, check_licences, licence

    one = package(tmp_path, line)
    assert licence(one) == name
    assert allowed(name) == passes
    assert check_licences([one]) == ([] if passes else [f"p: {name}"])


VULNERABLE = {"name": "a", "version": "1", "vulns": [{"id": "PYSEC-0-1", "fix_versions": ["2"]}]}
SOUND, UNKNOWN = {"name": "b", "version": "1", "vulns": []}, {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("known", "code", "said"),
    [
        ([SOUND, UNKNOWN], 0, "not checked: c"),
        ([SOUND, VULNERABLE], 1, "a 1: PYSEC-0-1"),
        ([UNKNOWN, UNKNOWN], 3, "NOT CHECKED"),  # as a mirror answers that has the packages and not the data; pip-audit exits 0
        (None, 3, "NOT CHECKED"),
    ],
)
def test_an_answer_that_knows_nothing_is_none(tmp_path: Path, known: list[object] | None, code: int, said: str) -> None:
    tool = tmp_path / "pip-audit"
    tool.write_text(
        f"#!/bin/sh\necho '{json.dumps({'dependencies': known})}'\n" if known else "#!/bin/sh\necho no route to host >&2\nexit 1\n"
    )
    tool.chmod(0o755)
    result = subprocess.run([sys.executable, SCRIPTS / "check_deps.py", tool], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (code, "")
    assert "Licences: 0 to look at." in result.stdout
    assert said in result.stdout
