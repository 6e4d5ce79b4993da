"""`getam unpack`: an archive into a folder, safely."""

import argparse
from pathlib import Path

from getam.cli.fetch import add_registry, lock_of
from getam.cli.options import HelpFormatter
from getam.data.archives.registry import read_registry, verify
from getam.data.archives.unpacking import unpack
from getam.utils.files import readable_size


def add(commands) -> None:
    """Adds `unpack` to the commands."""
    parser = commands.add_parser(
        "unpack",
        help="unpack an archive and write a manifest of its files",
        description="Unpacks a tar or zip archive: whole or not at all, and nothing outside the folder. An archive "
        "of the registry is verified first.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("archive", type=Path, help="an archive of `getam fetch`, or any other")
    parser.add_argument("--into", type=Path, required=True, metavar="FOLDER", help="folder to unpack to")
    parser.add_argument(
        "--only", nargs="+", metavar="PATH", default=(), help="prefixes of paths; other members are left out"
    )
    parser.add_argument(
        "--manifest",
        type=Path,
        help="JSON file to write (default: <archive>.json in the folder)",
    )
    add_registry(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    known = {}
    if options.registry.is_file():
        known = {archive.file: archive for archive in read_registry(options.registry).values()}
    sha256 = None
    if options.archive.name in known and options.archive.is_file():
        sha256 = verify(known[options.archive.name], options.archive, lock_of(options)).sha256
    else:
        print(f"{options.archive.name} is not in {options.registry}: unpacked unverified")
    manifest = unpack(options.archive, options.into, options.only, options.manifest, sha256)
    for folder, count in manifest["folders"].items():
        print(f"{folder}: {count} files")
    print(f"{manifest['files']} files, {readable_size(manifest['bytes'])} in {options.into}")
