"""The walk on the README's first screen, in a real browser: a digest waits, an officer approves, the group receives."""

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.conftest import SHOTS, Installation, Visitor
from tests.product import wait_for

pytestmark = pytest.mark.e2e

PATIENCE_MS = 60_000


def test_a_newcomer_sees_a_digest_approves_it_and_sees_it_arrive(visitor: Visitor) -> None:
    page = visitor.page

    # The administrator owns the workflow, asked for approval by that, and can therefore not give it.
    visitor.sign_in("admin")
    wait_for(lambda: page.reload() and page.get_by_text("Regulatory watch · update").count(), "a waiting digest")
    visitor.shoot("home")
    page.get_by_text("Regulatory watch · update").first.click()
    expect(page.get_by_text("a second person has to decide")).to_be_visible()
    expect(page.get_by_role("button", name="Approve and send")).to_have_count(0)
    visitor.shoot("barred")
    page.locator(".user-menu summary").click()
    page.get_by_role("button", name="Log out").click()

    visitor.sign_in("officer")
    visitor.go("/admin/workflows/approvalrequest/")
    visitor.shoot("queue")
    page.get_by_role("link", name="Regulatory watch · update").first.click()
    expect(page.get_by_text("180 people").first).to_be_visible()
    visitor.shoot("decide")
    page.screenshot(path=SHOTS / "readme.png")
    page.get_by_role("button", name="Approve and send").click()
    expect(page.get_by_text("Approved.")).to_be_visible()
    visitor.shoot("approved")

    page.get_by_role("link", name="State and progress").click()
    expect(page.get_by_text("Sent: 1")).to_be_visible(timeout=PATIENCE_MS)
    visitor.shoot("sent")

    page.goto(visitor.installation.sandbox_url)
    expect(page.get_by_text("Regulatory watch · update").first).to_be_visible()
    visitor.shoot("received")

    visitor.go("/admin/audit/auditevent/")
    trail = page.locator("#result_list")
    expect(trail.get_by_text("Approval granted")).to_be_visible()
    expect(trail.get_by_text("Delivery sent")).to_be_visible()
    visitor.shoot("trail")
    assert visitor.complaints == []


PAGES = {
    "home": "/admin/",
    "queue": "/admin/workflows/approvalrequest/?state=all",
    "decide": "/admin/workflows/approvalrequest/1/change/",
    "evidence": "/admin/workflows/approvalrequest/1/evidence/",
    "messages": "/admin/workflows/message/",
    "message": "/admin/workflows/message/1/change/",
    "workflows": "/admin/workflows/workflow/",
    "workflow": "/admin/workflows/workflow/1/change/",
    "schedule": "/admin/workflows/workflow/schedule/",
    "sources": "/admin/workflows/source/",
    "source": "/admin/workflows/source/1/change/",
    "channel": "/admin/workflows/channel/1/change/",
    "secret": "/admin/workflows/secretref/1/change/",
    "audience": "/admin/workflows/audience/1/change/",
    "runs": "/admin/workflows/run/",
    "run": "/admin/workflows/run/1/change/",
    "items": "/admin/workflows/item/",
    "digest": "/admin/workflows/digest/1/change/",
    "deliveries": "/admin/workflows/delivery/",
    "trail": "/admin/audit/auditevent/",
    "event": "/admin/audit/auditevent/1/change/",
    "story": "/admin/audit/auditevent/1/history/",
    "export": "/admin/audit/auditexport/new/",
    "exports": "/admin/audit/auditexport/",
    "reports": "/admin/audit/auditreport/",
    "report": "/admin/audit/auditreport/add/",
    "holds": "/admin/audit/audithold/",
    "hold": "/admin/audit/audithold/add/",
    "grants": "/admin/audit/auditpurgegrant/",
    "seals": "/admin/audit/auditseal/",
    "health": "/admin/audit/auditseal/health/",
    "queue-state": "/admin/workflows/run/queue/",
    "users": "/admin/auth/user/",
    "write": "/admin/workflows/message/add/",
}


@pytest.mark.parametrize("language", ["en-GB", "zh-CN"])
@pytest.mark.parametrize("width", [1280, 390])
def test_no_page_scrolls_sideways_or_makes_the_browser_complain(
    browser: Browser, installation: Installation, width: int, language: str
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 844}, locale=language)
    visitor = Visitor(context, installation)
    visitor.sign_in("admin")
    sideways = []
    for name, path in PAGES.items():
        visitor.go(path)
        visitor.shoot(f"{name}-{width}-{language}")
        if visitor.scrolls_sideways():
            sideways.append(name)
    context.close()
    assert sideways == []
    assert visitor.complaints == []
