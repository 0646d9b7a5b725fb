#!/usr/bin/env python3
"""Opens pages of `trimtab eval`, and that of `trimtab serve`, in headless Chromium as a phone, a tablet and a desk
would show them, light and dark:

    check_pages.py [--trimtab TRIMTAB] [PAGE...] [--shots FOLDER]

Each must ask for nothing, be no wider than the window with all its details open, break no interval of a card into
lines, show the bars of up to 30 layers and, on a desk, its table of suites without scrolling, and pass axe's rules for
accessibility. With --trimtab, pages of a tiny model of the tests are made and looked at too, and a server of it whose
page is (live_page.py); with --shots there is a picture of every look."""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from live_page import look_live, paint

HERE = pathlib.Path(__file__).resolve().parents[2]
WIDTHS = (390, 768, 1280)
BROKEN = "[...document.querySelectorAll('.big small')].filter(one => one.getClientRects().length > 1).length"
HIDDEN = """[...document.querySelectorAll('.layers')].filter(
    one => one.children.length <= 30 && one.scrollWidth > one.clientWidth).length"""
CUT = """[...document.querySelectorAll('section')].filter(one => [...one.querySelectorAll('.scroll:has(.bar)')].some(
    box => box.scrollWidth > box.clientWidth)).map(one => one.querySelector('h2').textContent)"""


def problems_of(page, width):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    wide = page.evaluate("document.documentElement.scrollWidth")
    found = [f"asks for {url}" for url in asked if url != page.url]
    if wide > width:
        found.append(f"is {wide} pixels wide")
    broken = page.evaluate(BROKEN)
    if broken:
        found.append(f"breaks {broken} intervals of cards")
    hidden = page.evaluate(HIDDEN)
    if hidden:
        found.append(f"hides layers of {hidden} policies")
    if width >= WIDTHS[-1]:
        found += [f"cuts a table of {one}" for one in page.evaluate(CUT)]
    for violation in Axe().run(page).response["violations"]:
        places = ", ".join(" ".join(node["target"]) for node in violation["nodes"][:3])
        found.append(f"axe {violation['id']} ({violation['impact']}), {len(violation['nodes'])} times: {places}")
    return found


def look(browser, path, shots):
    """All problems of a page, as lines."""
    lines = []
    for width in WIDTHS:
        for scheme in ("light", "dark"):
            with browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme) as context:
                page = context.new_page()
                page.goto(path.resolve().as_uri())
                lines += [f"{path.name}, {width} pixels, {scheme}: {one}" for one in problems_of(page, width)]
                if shots:
                    page.screenshot(path=shots / f"{path.stem}-{width}-{scheme}.png", full_page=True)
    return lines


def make_pages(trimtab, folder):
    """A page of one policy and one of several strengths of it, with variants and prices."""
    with open(HERE / "data" / "prompts.jsonl", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    data, policy, pages = folder / "rows.jsonl", folder / "tiny.safetensors", [folder / "one.html", folder / "all.html"]
    with open(data, "w", encoding="utf-8") as file:
        for split in ("train", "val", "test"):
            for label in ("harmful", "benign", "borderline"):
                some = [row for row in rows if row["split"] == split and row["label"] == label][:10]
                file.writelines(json.dumps(row) + "\n" for row in some)

    def run(command, *words):
        made = subprocess.run([trimtab, command, HERE / "tests" / "golden" / "tiny-llama", "--data", data, *words],
                              capture_output=True, text=True, check=False)
        if made.returncode not in (0, 3):  # 3: a policy beyond its bars, as of a model that writes nonsense
            sys.exit(f"check_pages: {command}: {made.stderr}")

    run("fit", "-o", policy)
    test = ("--split", "test", "-n", "8", "--html")
    run("eval", "--policy", policy, *test, pages[0])
    run("eval", "--policy", f"tiny={policy}", "--sweep", "tiny@1,0.5,2", "--variants", "leet",
        "--price-false-refusal", "1", "--price-miss", "4", *test, pages[1])
    return pages


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=pathlib.Path, metavar="PAGE")
    parser.add_argument("--trimtab", type=pathlib.Path, help="program that makes pages to look at")
    parser.add_argument("--shots", type=pathlib.Path, help="folder for pictures of each page, as PNG files")
    parser.add_argument("--load", type=pathlib.Path, help="tests/audit_load: times the live page on a log, no more")
    parser.add_argument("--entries", type=int, default=1000000, help="of that log")
    args = parser.parse_args()
    chromium = shutil.which("chromium")
    if not chromium:
        sys.exit("check_pages: there is no chromium")
    if args.shots:
        args.shots.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        pages = args.pages + (make_pages(args.trimtab, pathlib.Path(folder)) if args.trimtab and not args.load else [])
        # As root, as in a container, Chromium has no sandbox; the pages are our own.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        if args.load:
            print(json.dumps(paint(browser, args.trimtab.resolve(), args.load.resolve(), pathlib.Path(folder),
                                   args.entries)))
            return
        found = [one for path in pages for one in look(browser, path, args.shots)]
        if args.trimtab:
            found += look_live(browser, args.trimtab.resolve(), pathlib.Path(folder), WIDTHS, args.shots)
        browser.close()
    n_pages = len(pages) + bool(args.trimtab)
    print("".join(f"{one}\n" for one in found) + f"{n_pages} pages, each at {len(WIDTHS)} widths, light and dark: "
          f"{len(found)} problems")
    sys.exit(1 if found or not n_pages else 0)


if __name__ == "__main__":
    main()
