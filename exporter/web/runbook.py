"""`/runbook`: docs/runbook.md for a browser, with GitHub's anchors, to which alerts link."""

import re
from base64 import b64encode
from collections import Counter
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from starlette.responses import HTMLResponse

from common.http import HttpError

FILE = Path(__file__).parents[2] / "docs" / "runbook.md"
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")
_STYLE = """
:root{color-scheme:light dark} body{font:1rem/1.5 system-ui,sans-serif;max-width:46rem;margin:auto;padding:1rem;
background:Canvas;overflow-wrap:anywhere} pre{white-space:pre-wrap;border:1px solid #8888;padding:.5rem}
:target{color:#c40}
"""  # noqa: E501
_HEAD = f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Runbook</title>
<meta name="viewport" content="width=device-width"><style>{_STYLE}</style><main>
"""
_HASH = b64encode(sha256(_STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; frame-ancestors 'none'; base-uri 'none'"


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
