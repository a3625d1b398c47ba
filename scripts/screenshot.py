"""The top of a report as a PNG, taken with an installed Chromium: screenshot.py report.html picture.png [width]."""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

if __name__ == "__main__":
    page_file, picture, width = Path(sys.argv[1]).resolve(), sys.argv[2], int((sys.argv[3:] or ["1280"])[0])
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": width, "height": 1500})
        page.goto(page_file.as_uri())
        page.wait_for_function("document.querySelectorAll('.plot .main-svg').length > 0")
        page.screenshot(path=picture)
        browser.close()
