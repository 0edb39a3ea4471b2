"""sdk/client.py's copy of exporter/usage.py: python -m tests.support.client_copy writes it.

Without comments, blank lines and most docstrings, which exporter/usage.py has.
"""

import ast
import io
import re
import tokenize

from tests.support.paths import ROOT

SOURCE, CLIENT = ROOT / "exporter" / "usage.py", ROOT / "sdk" / "client.py"
START, END = "# --- usage in any spelling -", "# --- end of the copy -"
HEAD = (
    "# --- usage in any spelling ----------------------------------------------------------------\n"
    "# Written by `make generated` from llm-budget's exporter/usage.py, which explains it.\n"
    "# fmt: off\n"
)
TAIL = "# fmt: on\n# --- end of the copy ---"


def stripped(source: str) -> str:
    """The code without comments, blank lines and most of the docstrings."""
    lines = source.splitlines()
    for number, column in [
        token.start
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    ]:
        lines[number - 1] = lines[number - 1][:column].rstrip()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            text = node.body[0]
            assert text.end_lineno is not None
            if node.name.startswith("_"):
                lines[text.lineno - 1] = ""
            elif text.end_lineno > text.lineno:
                lines[text.lineno - 1] += '"""'
            lines[text.lineno : text.end_lineno] = [""] * (text.end_lineno - text.lineno)
    return "".join(f"{line}\n" for line in lines if line.strip())


def copied(client: str) -> str:
    """A client's source with a fresh copy of the table."""
    source = SOURCE.read_text()
    part = source[source.index(START) : source.index(END)]
    fresh = HEAD + stripped(part) + TAIL
    return re.sub(f"{START}.*?{END}--", lambda _: fresh, client, count=1, flags=re.DOTALL)


if __name__ == "__main__":
    CLIENT.write_text(copied(CLIENT.read_text()))
