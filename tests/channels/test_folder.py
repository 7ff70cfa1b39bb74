"""Documents in a folder: whole files, the same when repeated, nowhere else."""

import stat
from pathlib import Path

import pytest
from django.conf import settings

from compliance_bot.guardrails.http import GuardedSession
from tests.channels import contract
from workflows.channels import Receipt, TryLater, registry
from workflows.channels.folder import FolderForm
from workflows.domain.content import Content

FOLDER = registry.get("folder")


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(settings, "DATA_DIR", tmp_path)
    return tmp_path


def write(title: str = "合规 Watch", *, form: str = "markdown", folder: str = "daily") -> Receipt:
    part = FOLDER.render(Content(title=title, blocks=("**1. [A](https://a.example)**", "<b>raw</b>")), {})[0]
    with GuardedSession() as http:
        return contract.send(FOLDER, part, config={"folder": folder, "form": form}, secrets={}, http=http)


def test_a_markdown_file_is_written(data: Path) -> None:
    receipt = write()
    path = data / "documents" / "daily" / receipt.reference
    assert path.read_text("utf-8") == "# 合规 Watch\n\n**1. [A](https://a.example)**\n\n<b>raw</b>\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_html_is_escaped(data: Path) -> None:
    path = data / "documents" / "daily" / write("<script>", form="html").reference
    assert "<h1>&lt;script&gt;</h1>" in path.read_text("utf-8")
    assert "&lt;b&gt;raw" in path.read_text("utf-8")


def test_repeating_writes_the_same_file(data: Path) -> None:
    assert write() == write()
    assert len(list((data / "documents" / "daily").iterdir())) == 1


@pytest.mark.parametrize("title", ["../../etc/passwd", "/etc/passwd", "a\x00b", "..", "x" * 300])
def test_a_title_leads_nowhere_else(data: Path, title: str) -> None:
    path = data / "documents" / "daily" / write(title).reference
    assert path.resolve().parent == (data / "documents" / "daily").resolve()
    assert path.exists()


@pytest.mark.parametrize("folder", ["", "..", "a/b", "/etc", "A", "-x"])
def test_a_folder_has_a_plain_name(folder: str) -> None:
    assert "folder" in FolderForm({"folder": folder, "form": "markdown"}).errors


def test_a_folder_that_cannot_be_written_is_tried_later(data: Path) -> None:
    (data / "documents").write_text("in the way")
    with pytest.raises(TryLater):
        write()
