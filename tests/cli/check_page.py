#!/usr/bin/env python3
"""Reads a report page and fails when it is broken, loads anything or runs anything: check_page.py PAGE."""

import sys
from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "link", "img"}


class Page(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.problems, self.text, self.cells, self.tags = [], [], "", 0, set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag in ("script", "link", "img", "iframe", "object", "embed", "base", "form"):
            self.problems.append(f"a <{tag}>")
        for name, value in attributes:
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
for prompt in ("<script>alert(1)</script>", "\"onmouseover=alert(1) x='", "a & b </td>"):
    if prompt not in page.text:
        page.problems.append(f"the prompt {prompt!r} is not on it")
if page.cells < 3 * 10:
    page.problems.append(f"only {page.cells} map cells")
if "http:" in content or "https:" in content or "//" in page.text:
    page.problems.append("an address")
if page.problems:
    sys.exit("check_page: " + "; ".join(page.problems))
