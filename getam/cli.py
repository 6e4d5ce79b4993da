"""The `getam` command."""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool

from getam.commands import check, fetch, prepare, refine, saliency, unpack

_COMMANDS = (fetch, unpack, prepare, saliency, check, refine)  # in the order of the data flow


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command: 0, 1 after an error that is the input's, or 130 when interrupted."""
    parser = argparse.ArgumentParser(prog="getam", description="GETAM: segmentation from image-level labels.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add(commands)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, OSError, ImportError, MemoryError) as error:
        print(f"getam: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("getam: interrupted", file=sys.stderr)
        return 130
    except BrokenProcessPool:
        print("getam: error: a worker process was ended, most likely for memory: try fewer --workers", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
