"""The `getam` command."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module

from getam.utils.signals import Interrupted

# In the order of the data flow; each is a module of getam.cli.
_VERBS = (
    "fetch",
    "unpack",
    "prepare",
    "saliency",
    "check",
    "train",
    "convert",
    "predict",
    "refine",
    "label",
    "maps",
    "score",
    "submit",
    "explain",
    "status",
)


# Before torch is imported: threads that wait for each other go to sleep soon. By default they spin, which makes a step
# many times as long on a core that another process wants (benchmarks/speed/neighbours.py). GCC's OpenMP, and LLVM's.
# With fewer spins than some hundred, steps without a neighbour take half as long again.
_BARRIERS = {"GOMP_SPINCOUNT": "500", "KMP_BLOCKTIME": "1"}

# Errors that a user's input can cause, or the machine. All others are faults of this package, and keep their traceback.
_EXPECTED = (ValueError, OSError, ImportError, MemoryError)
_POSSIBLE = (TypeError, AssertionError, RuntimeError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command. Returns 0, 1 after an error in the input, or 130 (143) when interrupted (terminated).

    An error is one line on stderr. With GETAM_TRACEBACK=1 in the environment it is raised instead.
    """
    for name, value in _BARRIERS.items():
        os.environ.setdefault(name, value)
    try:
        _run(sys.argv[1:] if arguments is None else list(arguments))
    except (*_EXPECTED, *_POSSIBLE) as error:
        if os.environ.get("GETAM_TRACEBACK"):
            raise
        print(f"getam: error: {_described(error)}", file=sys.stderr)
        return 1
    except Interrupted as interruption:
        print(f"getam: {interruption}", file=sys.stderr)
        return interruption.exit_status
    except KeyboardInterrupt:
        print("getam: interrupted", file=sys.stderr)
        return 130
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of a command; `options.run(options)` runs it. Exits with a message if they are wrong."""
    parser = argparse.ArgumentParser(prog="getam", description="GETAM: segmentation from image-level labels.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    # Importing all verbs takes seconds, so only the requested one is imported.
    for verb in arguments[:1] if arguments[:1] and arguments[0] in _VERBS else _VERBS:
        import_module(f"getam.cli.{verb}").add(commands)
    return parser.parse_args(arguments)


def _run(arguments: list[str]) -> None:
    options = parse(arguments)
    logging.basicConfig(level=logging.INFO, format="getam: %(message)s", stream=sys.stderr)
    for verbose in ("PIL", "matplotlib", "timm"):
        logging.getLogger(verbose).setLevel(logging.WARNING)
    options.run(options)


def _described(error: Exception) -> str:
    """The message as one line. One that was not written for the user has its class and a hint before and after it."""
    message = " ".join(str(error).split())
    if isinstance(error, BrokenProcessPool):
        return "a worker process was killed, most likely for lack of memory: try fewer --workers"
    if isinstance(error, _EXPECTED):
        return message
    if "Bus error" in message:  # a data loader's worker wrote beyond the shared memory
        message += "; start the container with --ipc=host, or use --workers 0"
    return f"{': '.join(filter(None, (type(error).__name__, message)))} (GETAM_TRACEBACK=1 shows where)"
