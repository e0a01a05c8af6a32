"""Checks that each relative link of each page leads to a file, and to a heading of it."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
FENCED = re.compile(r"^ *```.*?^ *```", re.M | re.S)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def prose(page):
    return FENCED.sub("", page.read_text())


def anchors(page):
    """The anchors as GitHub and others make them from headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.M)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def wrong(page):
    for link in LINK.findall(prose(page)):
        path, _, anchor = link.partition("#")
        if ":" in path:
            continue
        target = page.parent / path if path else page
        if not target.exists():
            yield f"{link}: there is no such file"
        elif anchor and (target.suffix != ".md" or anchor not in anchors(target)):
            yield f"{link}: there is no such heading"


def main():
    pages = sorted([*ROOT.glob("*.md"), *ROOT.glob("examples/**/*.md")])
    links = sum(len(LINK.findall(prose(page))) for page in pages)
    found = [f"{page.relative_to(ROOT)}: {what}" for page in pages for what in wrong(page)]
    if found or not links:
        sys.exit("\n".join(found) or "no page has a link: this check is broken")
    print(f"{links} links of {len(pages)} pages lead somewhere")


main()
