"""An officer looks something up, follows the cause, takes it home as a file, and proves both."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import Visitor
from tests.product import wait_for

pytestmark = pytest.mark.e2e

PATIENCE_MS = 60_000


def test_search_story_export_and_proof(visitor: Visitor, tmp_path: Path) -> None:
    page, product = visitor.page, visitor.installation.product
    visitor.sign_in("officer")
    wait_for(lambda: page.reload() and page.get_by_text("Regulatory watch · update").count(), "a waiting digest")

    visitor.go("/admin/audit/auditevent/")
    page.get_by_placeholder("Words, names, ids").fill("requested regulatory")
    page.get_by_role("button", name="Search").click()
    trail = page.locator("#result_list")
    expect(trail.get_by_text("Approval requested")).to_be_visible()
    assert "q=requested+regulatory" in page.url
    visitor.shoot("trail-search")

    trail.locator("a.request").first.click()
    story = page.locator(".story")
    told = story.locator(".story-what").all_inner_texts()
    assert [what for what in told if what in {"Run started", "Digest composed", "Approval requested"}] == [
        *("Run started", "Digest composed", "Approval requested"),
    ]
    visitor.shoot("trail-story")

    page.get_by_role("link", name="Export", exact=True).click()
    page.get_by_label("Reason").fill("Asked for by the authority")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    file = tmp_path / "export.csv"
    download.value.save_as(file)
    assert f"{len(told)} rows as exported; complete" in product.manage("verify_export", str(file))

    page.get_by_label("Reason").fill("For the authority to check by itself")
    page.get_by_label("Format").select_option("zip")
    page.get_by_role("button", name="Export").click()
    ready = page.get_by_role("link", name="Download")
    expect(ready).to_be_visible(timeout=PATIENCE_MS)
    visitor.shoot("trail-exports")
    with page.expect_download() as download:
        ready.click()
    package = tmp_path / "package.zip"
    download.value.save_as(package)
    assert "Proved:" in _verified_by_a_stranger(package, tmp_path)

    visitor.go("/admin/audit/auditseal/health/")
    page.get_by_role("button", name="Verify now").click()
    expect(page.get_by_text("The trail is intact")).to_be_visible(timeout=PATIENCE_MS)
    visitor.shoot("trail-health")
    assert visitor.complaints == []


def _verified_by_a_stranger(package: Path, folder: Path) -> str:
    """With what came in the package and nothing but Python."""
    script = folder / "verify.py"
    with zipfile.ZipFile(package) as unpacked:
        script.write_bytes(unpacked.read("verify.py"))
    command = [sys.executable, "-I", "-S", str(script), str(package)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
