"""`python -m alertmanager.receiver`."""

import sys

from alertmanager.receiver.service import main

if __name__ == "__main__":
    sys.exit(main())
