"""`/runbook`: docs/runbook.md for a browser, with GitHub's anchors, to which alerts link."""

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from starlette.responses import HTMLResponse

from common.http import HttpError

FILE = Path(__file__).parents[2] / "docs" / "runbook.md"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")
_HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Runbook</title>
<meta name="viewport" content="width=device-width"><style>
:root{color-scheme:light dark} body{font:1rem/1.5 system-ui,sans-serif;max-width:46rem;margin:auto;padding:1rem}
pre{overflow:auto;border:1px solid #8888;padding:.5rem} code{overflow-wrap:anywhere} :target{color:#c40}
</style><main>
"""  # noqa: E501


def page(file: Path = FILE) -> HTMLResponse:
    """The runbook as HTML. Raises HttpError 404 where the file is not."""
    try:
        text = file.read_text()
    except (OSError, UnicodeError) as error:
        raise HttpError(404, f"no runbook: {file} cannot be read; put it there") from error
    headers = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"}
    return HTMLResponse(_HEAD + html(text), headers=headers)


def html(text: str) -> str:
    """Markdown as HTML: headings have GitHub's anchors, links to other files of docs/ none."""
    tokens, seen = _MARKDOWN.parse(text), Counter[str]()
    for before, inline in pairwise(tokens):
        children = inline.children or []
        if before.type == "heading_open":
            words = "".join(child.content for child in children).lower()
            anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
            before.attrSet("id", f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
            seen[anchor] += 1
        for child in children:
            if not re.match(r"#|https?://", str(child.attrs.get("href", "#"))):
                del child.attrs["href"]
    return str(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {}))
