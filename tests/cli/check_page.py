#!/usr/bin/env python3
"""Reads a report page and fails when it is broken, loads anything or runs anything: check_page.py PAGE."""

import sys
from html.parser import HTMLParser

# All attributes that a page has.
KNOWN = {"lang", "charset", "name", "content", "http-equiv", "class", "style", "title", "colspan", "scope",
         "aria-hidden", "tabindex", "viewbox", "points", "cx", "cy", "r", "x1", "x2", "y1", "y2", "x", "y",
         "text-anchor"}
VOID = {"meta", "br", "hr", "link", "img"}


class Page(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.problems, self.text, self.cells, self.tags = [], [], "", 0, set()
        self.titles = []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag in ("script", "link", "img", "iframe", "object", "embed", "base", "form"):
            self.problems.append(f"a <{tag}>")
        for name, value in attributes:
            if name not in KNOWN:  # a quote in some text has ended an attribute
                self.problems.append(f"{tag} has an attribute {name!r}")
            if tag == "td" and name == "title":
                self.titles.append(value)
            if name.startswith("on") or name in ("src", "href", "action") or "url(" in (value or ""):
                self.problems.append(f"{tag} {name}={value}")
        if tag == "td" and dict(attributes).get("class", "").startswith("c"):
            self.cells += 1
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> closes nothing")

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


page = Page()
content = open(sys.argv[1], encoding="utf-8").read()
page.feed(content)
page.close()
if page.open:
    page.problems.append(f"left open: {page.open}")
for text in ("<script>alert(1)</script>", "\"onmouseover=alert(1) x='", "a & b </td>",
               "\"onclick='x' <b>&amp;", "\"onclick='y' <i>.jsonl"):
    if text not in page.text:
        page.problems.append(f"{text!r} is not on it")
for piece in ('"', "'", "&", "<", ">"):  # of prompts, in a cell's title
    if not any(title.split(" \u00b7 layer ")[0].endswith(piece) for title in page.titles):
        page.problems.append(f"no cell is titled {piece!r}")
if any(" \u00b7 pushed by " not in title for title in page.titles):
    page.problems.append("a title was cut short")
if "&quot;onmouseover=alert(1) x=&#39;" not in content:
    page.problems.append("quotes in text are as they came")
if page.cells < 3 * 10:
    page.problems.append(f"only {page.cells} map cells")
if "http:" in content or "https:" in content or "//" in page.text:
    page.problems.append("an address")
if page.problems:
    sys.exit("check_page: " + "; ".join(page.problems))
