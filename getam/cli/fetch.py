"""`getam fetch`: archives of the registry, verified."""

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from getam.cli.options import HelpFormatter
from getam.data.archives.downloads import ask_mirrors, fetch
from getam.data.archives.registry import Archive, Lock, read_registry
from getam.utils.checks import suggestion
from getam.utils.files import readable_size, write_json

REGISTRY = Path("config/archives.yaml")
FOLDER = Path("resources/archives")
_AT_ONCE = 8


def add(commands) -> None:
    """Adds `fetch` to the commands."""
    parser = commands.add_parser(
        "fetch",
        help="download archives and verify them",
        description="Downloads archives of the registry and verifies them. An interrupted download resumes; "
        "a file that you have put there yourself is only verified.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="of the registry; without a name all are listed")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="folder of the files")
    parser.add_argument(
        "--check",
        action="store_true",
        help="ask every mirror once, and download nothing; without a NAME, of all archives",
    )
    parser.add_argument("--receipt", type=Path, metavar="FILE", help="JSON file to write: size and sha256 of one NAME")
    add_registry(parser)
    parser.set_defaults(run=_run)


def add_registry(parser: argparse.ArgumentParser) -> None:
    """--registry and --lock."""
    parser.add_argument("--registry", type=Path, default=REGISTRY, help="YAML file of archives")
    parser.add_argument(
        "--lock",
        type=Path,
        help="checksums of first fetches, for archives without a published sha256 (default: beside the registry)",
    )


def lock_of(options: argparse.Namespace) -> Lock:
    """The lock that the options name: archives.lock.yaml beside archives.yaml."""
    return Lock(options.lock or options.registry.with_suffix(".lock.yaml"))


def _run(options: argparse.Namespace) -> None:
    archives, lock = read_registry(options.registry), lock_of(options)
    for name in options.names:
        if name not in archives:
            raise ValueError(f"{options.registry}: no archive {name!r}; {suggestion(name, archives)}")
    if options.receipt and len(options.names) != 1:
        raise ValueError("--receipt: expected one NAME")
    if options.check:
        _check([archives[name] for name in options.names or archives])
        return
    if not options.names:
        _list(archives, options.folder)
    for name in options.names:
        path, content = fetch(archives[name], options.folder, lock)
        print(f"{path}: {readable_size(content.size)}, sha256 {content.sha256}")
        if options.receipt:
            write_json(options.receipt, {"archive": name, "size": content.size, "sha256": content.sha256})


def _check(archives: list[Archive]) -> None:
    """Prints the answer of every mirror; an OSError names the archives that no mirror has."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = dict(zip([archive.name for archive in archives], pool.map(ask_mirrors, archives), strict=True))
    width = max(map(len, answers), default=0)
    for name, of_archive in answers.items():
        for answer in of_archive:
            print(f"{name:<{width}}  {'works' if answer.works else 'fails'}  {answer.url}: {answer.words}")
    if dead := [name for name, of_archive in answers.items() if not any(answer.works for answer in of_archive)]:
        raise OSError(f"no mirror works for {', '.join(dead)}")


def _list(archives: dict[str, Archive], folder: Path) -> None:
    width = max(map(len, archives), default=0)
    for archive in archives.values():
        size = readable_size(archive.size) if archive.size else "size unknown"
        there = "there" if (folder / archive.file).is_file() else "not there"
        print(f"{archive.name:<{width}}  {there:<9}  {size:>12}  {archive.file}")
