"""`python -m exporter`."""

import sys

from common.signals import end_at_once

if __name__ == "__main__":
    end_at_once(0)  # until the server has its own handlers
    from exporter.service import main

    sys.exit(main())
