"""Saliency maps of the workflow: the entries of `saliency` in config/config.yaml, and the folder of the maps of each.

The source of an entry is its own, or else `saliency_source`. Maps of different sources have different folders,
resources/saliency/<entry>/<source>, so that a change of source overwrites nothing.
"""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from getam.utils.checks import check_known

Config = Mapping[str, Any]
ROOT = PurePosixPath("resources/saliency")
# Sources of maps that are published, and the first part of the names of their archives: saliency_voc, pfan_coco.
PUBLISHED = {"authors": "saliency", "pfan": "pfan"}


def source_of(entry: str, config: Config) -> str:
    """The source of an entry's maps."""
    return config["saliency"][entry].get("source") or config["saliency_source"]


def maps_folder(path: str | None, config: Config, where: str = "data.saliency") -> str | None:
    """The folder of the maps that an experiment names: with its source, where it names an entry of `saliency`.

    Args:
        path: resources/saliency/<entry>, or any other folder, which is returned as it is.
        where: the key, for the message.

    Raises:
        ValueError: there is no such entry.
    """
    folder = PurePosixPath(path or "")
    if folder.parent != ROOT or "saliency" not in config:
        return path
    check_known(where, folder.name, config["saliency"])
    return str(folder / source_of(folder.name, config))


def described(entry: str, source: str, config: Config) -> dict[str, Any]:
    """How the maps of an entry are made from a source: `archives` that are unpacked first, and the options of
    `getam saliency`: `source`, `threshold` and, where the source needs one, `path`.

    Keys of the entry that belong to another source are left out, so that one key changes the source.

    Raises:
        ValueError: the source needs a path or an archive that the configuration does not name.
    """
    own = config["saliency"][entry]
    path, archives, threshold = own.get("path"), own.get("archives") or [], own.get("threshold")
    if own.get("source") not in (None, source):  # the maps of an entry with a source of its own, from another one
        path, archives, threshold = None, [], None
    if source in PUBLISHED and not path:
        archive = f"{PUBLISHED[source]}_{config['datasets'][own['dataset']]['kind']}"
        if archive not in config["unpack"]:
            raise ValueError(
                f"saliency.{entry}: {source} published no maps of {own['dataset']}; choose another source, or give "
                "their path"
            )
        path, archives = config["unpack"][archive]["into"], [archive]
    elif source == "folder" and not path:
        raise ValueError(f"saliency.{entry}: source folder needs a path, the folder of the maps <id>.png")
    elif source not in ("folder", *PUBLISHED):
        archives = []
        path = path if str(path).endswith(".onnx") else None
    return {"archives": archives, "source": source, "threshold": threshold, "path": path}
