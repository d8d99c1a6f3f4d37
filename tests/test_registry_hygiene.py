"""The registry searches every shipped file for these patterns, prose included; one finding holds a release back.

Sources of the list: the registry's published standards, and the findings that publishers reported in 2026.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PATTERNS = [
    r"\beval\(",
    r"\bexec\(",
    r"\bos\.environ\b",
    r"\bos\.system\b",
    r"\bos\.popen\b",
    r"\bsubprocess\b",
    r"\burllib\b",
    r"\burlopen\b",
    r"\brequests\.",
    r"\bhttp\.client\b",
    r"\baiohttp\.ClientSession\b",
    r"\bsocket\.",
    r"\.connect\(",
    r"\.bind\(",
    r"\.send\(",
    r"\.sendall\(",
    r"\.recv\(",
    r"__import__",
    r"\bpickle\.loads?\b",
    r"\bmarshal\.",
    r"\brm -rf\b",
]
_FORBIDDEN = re.compile("|".join(PATTERNS))


def shipped_files() -> list[Path]:
    """What `comfy node pack` would archive: all that git would track, less `.comfyignore`."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    ignored = {*_git("ls-files", "-ci", "-X", ".comfyignore"), *_git("ls-files", "-oi", "-X", ".comfyignore")}
    listed = _git("ls-files", "--cached", "--others", "--exclude-standard")
    return [ROOT / name for name in listed if name not in ignored and (ROOT / name).is_file()]


def _git(*arguments: str) -> list[str]:
    run = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return run.stdout.splitlines()


def test_the_archive_holds_what_the_host_needs_and_no_more() -> None:
    names = {file.relative_to(ROOT).as_posix() for file in shipped_files()}
    assert {"__init__.py", "nodes/train.py", "web/docs/TI_Train/en.md", "ti_engine/demo/demo.safetensors"} <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "docs/", ".ci/"))]


def findings(text: str) -> list[str]:
    return [match.group() for match in _FORBIDDEN.finditer(text)]


def test_nothing_that_ships_holds_a_forbidden_pattern() -> None:
    found = {
        str(file.relative_to(ROOT)): hits
        for file in shipped_files()
        if (hits := findings(file.read_bytes().decode("utf-8", "replace")))
    }
    assert not found


@pytest.mark.parametrize(
    "planted",
    [
        "model.eval()",
        "x = os.environ['A']",
        "import subprocess",
        "f.bind(this)",
        "sqlite3.connect(p)",
        "pickle.loads(b)",
    ],
)
def test_a_planted_pattern_is_found(planted: str) -> None:
    assert findings(f"some text\n{planted}\n")


def test_what_must_ship_ships_and_what_must_not_does_not() -> None:
    names = {file.relative_to(ROOT).as_posix() for file in shipped_files()}
    assert {"__init__.py", "pyproject.toml", "LICENSE", "ti_engine/training/loop.py", "nodes/__init__.py"} <= names
    assert not [
        name for name in names if name.startswith(("tests/", ".github/", "benchmarks/", "ti_engine/demo/build/"))
    ]
    assert "CHANGELOG.md" not in names
