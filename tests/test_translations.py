"""The Chinese catalogue: complete, faithful to its placeholders, compiled, and aware of every text in the source."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polib
import pytest

from tests import machine

ROOT = Path(__file__).parent.parent
CATALOGUE = Path("compliance_bot/locale/zh_Hans/LC_MESSAGES/django.po")
_WITH_TEXTS = ("compliance_bot", "workflows", "audit", "templates")
_PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]|%[sd]|\{\w*\}")
_TAG = re.compile(r"<[^>]+>")


def _key(entry: Any) -> tuple[str, str, str]:
    return entry.msgctxt or "", entry.msgid, entry.msgid_plural or ""


def _translations(entry: Any) -> list[str]:
    return list(entry.msgstr_plural.values()) if entry.msgid_plural else [entry.msgstr]


def _catalogue(path: Path) -> dict[tuple[str, str, str], Any]:
    return {_key(entry): entry for entry in polib.pofile(str(path)) if not entry.obsolete}


@pytest.fixture(scope="module")
def catalogue() -> dict[tuple[str, str, str], Any]:
    return _catalogue(ROOT / CATALOGUE)


def test_every_text_has_a_translation_that_somebody_confirmed(catalogue: dict[tuple[str, str, str], Any]) -> None:
    assert catalogue
    assert [key for key, entry in catalogue.items() if not all(_translations(entry))] == []
    assert [key for key, entry in catalogue.items() if "fuzzy" in entry.flags] == []
    # Chinese has one plural form; a second one would never be shown.
    assert [key for key, entry in catalogue.items() if entry.msgid_plural and list(entry.msgstr_plural) != [0]] == []


@pytest.mark.parametrize("pattern", [_PLACEHOLDER, _TAG], ids=["placeholders", "tags"])
def test_a_translation_carries_what_its_source_carries(
    catalogue: dict[tuple[str, str, str], Any], pattern: re.Pattern[str]
) -> None:
    wrong = {
        key: text
        for key, entry in catalogue.items()
        for text in _translations(entry)
        if sorted(pattern.findall(text)) != sorted(pattern.findall(entry.msgid_plural or entry.msgid))
    }
    assert wrong == {}


def test_the_compiled_catalogue_is_what_its_source_compiles_to() -> None:
    source = polib.pofile(str(ROOT / CATALOGUE))
    compiled = polib.mofile(str((ROOT / CATALOGUE).with_suffix(".mo")))

    # Newer versions of msgfmt leave one header out, so that a compilation can be repeated.
    kept = {name: value for name, value in source.metadata.items() if name != "POT-Creation-Date"}
    assert kept == {name: value for name, value in compiled.metadata.items() if name != "POT-Creation-Date"}
    assert {_key(entry): _translations(entry) for entry in compiled} == {
        _key(entry): _translations(entry) for entry in source.translated_entries()
    }


def test_no_text_in_the_source_is_missing_from_the_catalogue(
    catalogue: dict[tuple[str, str, str], Any], tmp_path: Path
) -> None:
    machine.require(shutil.which("xgettext") or "", "xgettext (package gettext)")
    copy = tmp_path / "copy"
    for name in _WITH_TEXTS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "LC_MESSAGES", "static"))
    shutil.copy2(ROOT / "manage.py", copy)
    subprocess.run(
        [sys.executable, "manage.py", "makemessages", "-l", "zh_Hans", "--no-location", "--no-wrap"],
        cwd=copy,
        env={**os.environ, "ENVIRONMENT": "sandbox", "SECRET_KEY": "x", "DATA_DIR": str(tmp_path / "data")},
        check=True,
        capture_output=True,
        timeout=120,
    )
    assert set(catalogue) == set(_catalogue(copy / CATALOGUE))
