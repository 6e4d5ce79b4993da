"""`python -m getam.cli`, which torchrun starts."""

import sys

from getam.cli.command import main

if __name__ == "__main__":
    sys.exit(main())
