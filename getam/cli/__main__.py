"""`python -m getam.cli`: the `getam` command as torchrun starts it."""

import sys

from getam.cli.command import main

if __name__ == "__main__":
    sys.exit(main())
