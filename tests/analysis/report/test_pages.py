"""Pages in a real browser, driven through its DevTools: no complaint, figures drawn, tables sorted and filtered."""

import asyncio
import base64
import csv
import io
import json
import shutil
import subprocess
import urllib.request

import pytest

import fairsweep.analysis as analysis
from fairsweep.analysis.comparing.comparison_page import write_comparison

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium"),
]
COMPLAINTS = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")


class Browser:
    """One page of a headless Chromium."""

    async def start(self, folder):
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        command += ["--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port = await self._until(lambda: (folder / "DevToolsActivePort").read_text().splitlines()[0])
        answer = await self._until(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list").read())
        (target,) = [found for found in json.loads(answer) if found["type"] == "page"]
        websocket = pytest.importorskip("tornado.websocket")
        self.socket = await websocket.websocket_connect(target["webSocketDebuggerUrl"], max_message_size=2**28)
        self.number, self.complaints = 0, []
        for domain in ("Page", "Runtime", "Log"):
            await self.call(f"{domain}.enable")

    async def call(self, method, **parameters):
        self.number += 1
        await self.socket.write_message(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = json.loads(await self.socket.read_message())
            if message.get("method") in COMPLAINTS:
                self.complaints.append(message["params"])
            if message.get("id") == self.number:
                assert "error" not in message, message
                return message["result"]

    async def run(self, script):
        answer = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def open(self, path, width=1200, scheme="light"):
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.call("Emulation.setEmulatedMedia", features=features)
        await self.call("Page.navigate", url=path.as_uri())
        for _ in range(3000):
            if await self.run("document.documentElement?.dataset.drawn !== undefined"):
                return
            await asyncio.sleep(0.1)
        raise TimeoutError("the page never said that its figures are drawn")

    async def stop(self):
        self.socket.close()
        while await self.socket.read_message() is not None:
            pass
        self.process.terminate()
        self.process.wait(60)

    @staticmethod
    async def _until(ask):
        for _ in range(3000):
            try:
                return ask()
            except (OSError, IndexError):
                await asyncio.sleep(0.1)
        raise TimeoutError("the browser did not start")


def in_browser(folder, visit):
    """Run a coroutine function of a browser."""

    async def go():
        browser = Browser()
        try:
            await browser.start(folder)
            await visit(browser)
        finally:
            await browser.stop()

    asyncio.run(go())


COLUMN = """[...document.querySelector('{table}').tBodies[0].rows].filter(row => !row.hidden)
.map(row => row.cells[{column}].firstChild.textContent)"""
ACCURACY = "#accuracy table.sortable"


def test_the_report_works(faces, tmp_path):
    path = analysis.write_report(faces.folder, to=tmp_path / "report.html")

    async def visit(browser):
        await browser.open(path)
        assert browser.complaints == []
        figures = await browser.run("document.querySelectorAll('.plot').length")
        assert figures >= 6
        drawn = "document.querySelectorAll('.plot:has(.main-svg)').length"
        assert await browser.run(drawn) < figures  # what is folded waits
        await unfolds(browser)
        assert await browser.run(drawn) == figures
        await saves(browser)
        explained = "[...document.querySelectorAll('.headline abbr, .findings abbr')].map(a => a.textContent)"
        assert {"ε", "matched twin", "80% power"} <= set(await browser.run(explained))
        assert await browser.run("document.querySelectorAll('.plot .modebar-btn[data-title*=hare]').length") == 0
        await sorts_and_filters(browser)
        await changes_its_colours(browser)
        await prints(browser)
        await browser.open(path, width=400)
        await unfolds(browser)
        assert await browser.run("document.documentElement.scrollWidth <= innerWidth")
        assert await browser.run("[...document.querySelectorAll('.plot')].every(p => p.scrollWidth <= p.clientWidth)")
        assert browser.complaints == []

    in_browser(tmp_path / "browser", visit)


def test_figures_follow_the_width_of_the_page(faces, tmp_path):
    """A phone is turned, a window is made narrower: panels then stand one below the other, and back again."""
    path = analysis.write_report(faces.folder, to=tmp_path / "report.html")
    size = "(() => { const box = document.querySelector('#accuracy .main-svg').getBoundingClientRect();"
    size += " return [box.width, box.height]; })()"

    async def visit(browser):
        async def turned(width):
            shape = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            await browser.call("Emulation.setDeviceMetricsOverride", **shape)
            await asyncio.sleep(2)
            return await browser.run(size)

        await browser.open(path)
        wide = await browser.run(size)
        width, height = await turned(400)
        assert width < 400
        assert height > 1.5 * wide[1]
        assert await turned(1200) == wide
        assert browser.complaints == []

    in_browser(tmp_path / "profile", visit)


def test_no_table_is_cut_on_a_wide_page(digits, tmp_path):
    path = analysis.write_report(digits.folder, to=tmp_path / "report.html")
    cut = "[...document.querySelectorAll('.tabled .scroll')].filter(s => s.scrollWidth > s.clientWidth + 1).length"

    async def visit(browser):
        await browser.open(path, width=1400)
        await unfolds(browser)
        assert await browser.run(cut) == 0

    in_browser(tmp_path / "browser", visit)


def test_the_comparison_works(faces, tmp_path):
    found = analysis.compare(faces.folder, faces.folder)
    path = write_comparison(found, tmp_path / "comparison.html")

    async def visit(browser):
        await browser.open(path, scheme="dark")
        assert await browser.run("document.querySelectorAll('.plot .main-svg').length") >= 2
        sort = "document.querySelector('#settings table').tHead.rows[0].cells[1].querySelector('button').click()"
        await browser.run(sort)
        levels = await browser.run(COLUMN.format(table="#settings table", column=1))
        assert levels == sorted(levels)
        assert browser.complaints == []

    in_browser(tmp_path / "browser", visit)


async def unfolds(browser):
    """Open all that is folded; figures are drawn then."""
    await browser.run("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    for _ in range(600):
        if await browser.run("[...document.querySelectorAll('figure')].every(one => one.querySelector('.saves'))"):
            return
        await asyncio.sleep(0.1)
    raise TimeoutError("what was unfolded was never drawn")


async def saves(browser):
    """A figure's numbers are saved as they are drawn, its levels by name."""
    await browser.run(
        "window.saved = []; URL.createObjectURL = (blob) => { window.saved.push(blob); return 'data:text/csv,'; };"
        "[...document.querySelectorAll('#accuracy .saves button')].find(b => b.textContent === 'CSV').click()"
    )
    rows = list(csv.DictReader(io.StringIO(await browser.run("window.saved[0].text()"))))
    means = [row for row in rows if row["series"] == "dark tone" and row["panel"] == "private"]
    assert [row["x"] for row in means] == ["share 0.5", "share 0.9", "share 0.99"]
    assert all(float(row["low"]) < float(row["y"]) < float(row["high"]) for row in means)
    assert await browser.run("document.querySelectorAll('.saves button').length") == 2 * await browser.run(
        "document.querySelectorAll('.plot').length"
    )


async def sorts_and_filters(browser):
    column = COLUMN.format(table=ACCURACY, column=4)
    given = await browser.run(column)
    # From the keyboard: the button of the column gets the focus, and Enter presses it.
    head = f"document.querySelector('{ACCURACY}').tHead.rows[0].cells[4]"
    orders = []
    for _ in range(3):
        await browser.run(f"{head}.querySelector('button').focus()")
        for kind in ("keyDown", "keyUp"):
            await browser.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r")
        orders.append((await browser.run(f"{head}.getAttribute('aria-sort')"), await browser.run(column)))
    numbers = [float(text) for text in given]
    assert [float(text) for text in orders[0][1]] == sorted(numbers)
    assert [float(text) for text in orders[1][1]] == sorted(numbers, reverse=True)
    assert [order for order, _ in orders] == ["ascending", "descending", None]
    assert orders[2][1] == given
    assert "order of the sweep" in await browser.run("document.getElementById('said').textContent")
    tools = f"document.querySelector('{ACCURACY}').closest('.tabled').querySelector('.tools')"
    await browser.run(f"{tools}.querySelector('input').focus()")
    await browser.call("Input.insertText", text="private 0.9")
    assert await browser.run(COLUMN.format(table=ACCURACY, column=0)) == ["private", "private"]
    assert await browser.run(f"{tools}.querySelector('output').textContent") == "2 of 9 rows"
    choose = (
        f"(s => {{ s.value = '=0.99'; s.dispatchEvent(new Event('change')); }})({tools}.querySelectorAll('select')[1])"
    )
    await browser.run(choose)
    assert await browser.run(COLUMN.format(table=ACCURACY, column=1)) == ["0.99"]


async def changes_its_colours(browser):
    colour = "getComputedStyle(document.body).backgroundColor"
    light = await browser.run(colour)
    await browser.run("document.querySelector('.theme').click()")
    dark = await browser.run(colour)
    assert light != dark
    text = "getComputedStyle(document.querySelector('.plot .xtick text')).fill"
    assert await browser.run(text) == await browser.run("getComputedStyle(document.body).color")
    await browser.run("document.querySelector('.theme').click()")
    assert await browser.run(colour) == light


async def prints(browser):
    """On paper every figure fits the page, what is folded stays so, and afterwards all is as before."""
    await browser.run(
        "addEventListener('beforeprint', () => { window.onPaper = "
        "[...document.querySelectorAll('.plot')].every(p => p.offsetWidth * p.style.zoom < 700); })"
    )
    folded = await browser.run("document.querySelectorAll('details:not([open])').length")
    printed = await browser.call("Page.printToPDF", printBackground=True)
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
    assert await browser.run("window.onPaper")
    assert await browser.run("document.querySelectorAll('details:not([open])').length") == folded
