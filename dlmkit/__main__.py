"""``python -m dlmkit``."""

import sys

from dlmkit.cli import main

if __name__ == "__main__":
    sys.exit(main())
