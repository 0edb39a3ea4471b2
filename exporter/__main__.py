"""`python -m exporter`."""

import sys

from exporter.service import main

if __name__ == "__main__":
    sys.exit(main())
