"""A browser for tests: which one, how it is started, and what every page must keep to."""

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

ROOT: Final = Path(__file__).parents[2]
OWN: Final = ROOT / ".venv/browser"
"""Where set-up puts a browser and axe-core."""

ON_PATH: Final = ("chromium", "chromium-browser", "google-chrome", "chrome-headless-shell")
WCAG: Final = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")


def program() -> Path:
    """Return the browser of the tests: the one that DARKROOM_TEST_BROWSER names, one on the PATH, or set-up's.

    Where there is none, the test is skipped, or fails with DARKROOM_REQUIRE_BROWSER=1.
    """
    named = os.environ.get("DARKROOM_TEST_BROWSER")
    found = named or next((path for one in ON_PATH if (path := shutil.which(one))), None)
    if found is None and (OWN / "chromium").exists():
        return OWN / "chromium"
    if found is None or not (OWN / "node_modules/axe-core").exists():
        said = "there is no browser, or no axe-core: `make test` gets both from npm"
        if os.environ.get("DARKROOM_REQUIRE_BROWSER") == "1":
            pytest.fail(said)
        pytest.skip(said)
    return Path(found)


@contextlib.asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    """Start a browser, with a home of its own."""
    path = program()
    with tempfile.TemporaryDirectory() as home:
        environment: dict[str, str | float | bool] = {**os.environ, "HOME": home, "XDG_CACHE_HOME": home}
        if path.parent == OWN:
            fonts = Path(home) / "fonts.conf"
            fonts.write_text(f"<fontconfig><dir>{OWN}/fonts</dir><cachedir>{home}/fonts</cachedir></fontconfig>")
            environment |= {"LD_LIBRARY_PATH": f"{OWN}/al2023/lib", "FONTCONFIG_FILE": str(fonts)}
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=path,
                args=["--headless=shell", "--no-sandbox", "--no-zygote", "--disable-gpu"],
                env=environment,
            )
            try:
                yield browser
            finally:
                await browser.close()


class Visit:
    """A browser's window on a dashboard, which notes what no page may do.

    Attributes:
        page: the window.
        faults: errors in the console, refusals of the content security policy, and requests to other places.
    """

    def __init__(self, context: BrowserContext, page: Page, url: str) -> None:
        """Note the faults of all pages that the window shows from now on."""
        self.context = context
        self.page = page
        self.faults: list[str] = []
        origin = urlsplit(url).netloc

        def seen(url: str) -> None:
            if urlsplit(url).netloc != origin and urlsplit(url).scheme not in {"data", "about"}:
                self.faults.append(f"request to {url}")

        page.on("request", lambda request: seen(request.url))
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("console", lambda said: self.faults.append(f"console: {said.text}") if said.type == "error" else None)

    async def barriers(self) -> list[str]:
        """Return what axe-core finds against WCAG 2.2 AA, a line for each violation."""
        if not await self.page.evaluate("'axe' in window"):
            script = await asyncio.to_thread((OWN / "node_modules/axe-core/axe.min.js").read_text)
            await self.page.evaluate(script)
        found: dict[str, Any] = await self.page.evaluate(
            "tags => axe.run(document, {runOnly: {type: 'tag', values: tags}})", list(WCAG)
        )
        return [
            f"{one['id']}: {one['help']}: {node['html'][:200]}" for one in found["violations"] for node in one["nodes"]
        ]

    async def sideways_px(self) -> int:
        """Return by how many pixels the page is wider than the window."""
        return int(
            await self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        )


@contextlib.asynccontextmanager
async def visit(
    browser: Browser, url: str, *, width_px: int = 1280, is_dark: bool = False, scripts: bool = True
) -> AsyncIterator[Visit]:
    """Open a window on a dashboard, with no cookie and no cache of another one's."""
    context = await browser.new_context(
        base_url=url,
        viewport={"width": width_px, "height": 900},
        color_scheme="dark" if is_dark else "light",
        java_script_enabled=scripts,
    )
    context.set_default_timeout(10_000)
    try:
        yield Visit(context, await context.new_page(), url)
    finally:
        await context.close()
