"""Builds dashboards/*.json with Grafana's foundation SDK: python -m dashboards.build [--check]."""

import argparse
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.overview import overview

FOLDER = Path(__file__).parent
DASHBOARDS = {"overview.json": overview}


def rendered() -> dict[str, str]:
    """File name to content."""
    encoder = JSONEncoder(sort_keys=True, indent=2)
    return {name: encoder.encode(build().build()) + "\n" for name, build in DASHBOARDS.items()}


def main() -> int:
    """Write the files; with --check only say whether they are current."""
    parser = argparse.ArgumentParser(prog="python -m dashboards.build", description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 when a file is not current")
    check = parser.parse_args().check
    stale = []
    for name, content in rendered().items():
        path = FOLDER / name
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            stale.append(name)
            if not check:
                path.write_text(content, encoding="utf-8")
    for name in stale:
        sys.stdout.write(f"{name} {'is not what dashboards/ makes' if check else 'written'}\n")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
