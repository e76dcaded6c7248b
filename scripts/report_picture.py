"""Take the picture of a report that the README shows, in a headless Chromium.

    limbeck run quickstart
    python scripts/report_picture.py runs/quickstart/report.html docs/img/report.png

Needs `pip install playwright` and a Chromium on the path (`apt-get install chromium`); nothing is downloaded.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path


def main() -> None:
    """Read the command line and take the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--width", type=int, default=960)
    parser.add_argument("--height", type=int, default=1165, help="how much of the page, from the top")
    parser.add_argument("--dark", action="store_true", help="as a reader with a dark screen sees it")
    options = parser.parse_args()
    browser = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    if browser is None:
        sys.exit("There is no Chromium on the path; install one (apt-get install chromium).")
    take(options.report, options.picture, browser, (options.width, options.height), "dark" if options.dark else "light")


def take(report: Path, picture: Path, browser: str, size: tuple[int, int], scheme: str) -> None:
    """Open the report as a reader does, from the disk, and write what is seen."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)  # type: ignore[arg-type]
        page.goto(report.resolve().as_uri())
        page.wait_for_load_state("networkidle")
        page.screenshot(path=picture)
        chromium.close()


if __name__ == "__main__":
    main()
