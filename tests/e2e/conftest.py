"""A newcomer's installation and a real browser."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from tests import machine
from tests.product import Product, free_port, wait_for

SHOTS = Path(__file__).parent / "screenshots"
_QUIET = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]


@dataclass(frozen=True)
class Installation:
    url: str
    sandbox_url: str
    passwords: dict[str, str]
    product: Product


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """What ``make run`` starts, on ports and in a folder of its own."""
    machine.require(machine.chromium(), "Chromium")
    port, sandbox_port = free_port(), free_port()
    product = Product(tmp_path_factory.mktemp("installation"), sandbox_port=sandbox_port)
    product.start("serve", "--port", str(port))
    try:
        wait_for(lambda: "Ready:" in product.log("serve"), "the product to be ready")
        passwords = dict(re.findall(r"^    (admin|officer) +(\S+)$", product.log("serve"), re.MULTILINE))
        yield Installation(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{sandbox_port}", passwords, product)
    finally:
        product.stop_all()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    machine.require(machine.chromium(), "Chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=machine.chromium(), args=_QUIET)
        yield browser
        browser.close()


class Visitor:
    """One person at one screen. Whatever the browser complains about is kept and has to stay empty."""

    def __init__(self, context: BrowserContext, installation: Installation) -> None:
        self.context = context
        self.installation = installation
        self.complaints: list[str] = []
        context.on("console", self._hear)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        self.page: Page = context.new_page()

    def _hear(self, said: ConsoleMessage) -> None:
        if said.type == "error":
            self.complaints.append(said.text)

    def go(self, path: str) -> None:
        self.page.goto(self.installation.url + path)

    def sign_in(self, name: str) -> None:
        self.go("/admin/login/")
        self.page.locator("#id_username").fill(name)
        self.page.locator("#id_password").fill(self.installation.passwords[name])
        self.page.locator("input[type=submit]").click()
        self.page.wait_for_url("**/admin/")

    def shoot(self, name: str) -> None:
        SHOTS.mkdir(exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png", full_page=True)

    def scrolls_sideways(self) -> bool:
        return bool(self.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


@pytest.fixture
def visitor(browser: Browser, installation: Installation) -> Iterator[Visitor]:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB")
    yield Visitor(context, installation)
    context.close()
