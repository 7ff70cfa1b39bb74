"""Set-up on machines that lack something: one sentence with the remedy, no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def said(tmp_path: Path, module: str, source: str, **environment: str) -> str:
    """What bootstrap says when Python's ``module`` is replaced by ``source``."""
    (tmp_path / f"{module}.py").write_text(source, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "deploy/bootstrap.py"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_an_old_python_is_told_which_one_is_needed(tmp_path: Path) -> None:
    old = "import sys\nsys.version_info = (3, 9, 2, 'final', 0)\n"
    assert "Python 3.11 or newer is needed; this is 3.9." in said(tmp_path, "sitecustomize", old)


def test_a_missing_venv_module_names_its_package(tmp_path: Path) -> None:
    assert "apt-get install python3-venv" in said(tmp_path, "ensurepip", "raise ImportError\n")


@pytest.mark.parametrize("folder", ["/dev/null/data", "/proc/nowhere"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, folder: str) -> None:
    assert f"{folder} cannot be written" in said(tmp_path, "unused", "", DATA_DIR=folder)
