"""The hosts of VOC's archives, played by one server on loopback, with small archives in the true layouts.

Every file has a dead mirror, and its first transfer breaks off in the middle. OneDrive refuses the first of its ways.
"""

import base64
import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image

from getam.data import voc
from tests.helpers import small_voc
from tests.helpers.file_server import FileServer, Handler

DRIVE_ID = "19AjSmgdMlIZH4FXVZ5zjlUZcoZZCkwrI"
ONEDRIVE_LINK = "https://1drv.ms/u/s!Ak3sXyXVg781yW78vNuDTblg2qdJ"
WEIGHTS = ("imagenet_vitb_hybrid", "imagenet_vitb", "imagenet_deit", "imagenet_deit_distilled")
_MANIFEST = "application/json"


def make_archives(folder: Path) -> dict[str, bytes]:
    """Name of an archive of the registry -> its content."""
    root = small_voc.write_voc(folder / "VOCdevkit" / "VOC2012", voc.CLASSES)
    sbd = small_voc.write_sbd(folder / "benchmark_RELEASE" / "dataset")
    # The archive has more than is needed.
    (sbd / "inst").mkdir()
    (sbd / "inst" / "left_out.mat").write_bytes(b"instances")
    ids = [path.stem for path in (root / "JPEGImages").iterdir()]
    network = timm.create_model("vit_tiny_patch16_224", pretrained=False)
    weights = io.BytesIO()
    torch.save(network.state_dict(), weights)
    return {
        "voc2012_trainval": _tar(folder / "VOCdevkit", ""),
        "sbd": _tar(folder / "benchmark_RELEASE", "gz"),
        "saliency_voc": _zip({f"saliency/{name}.png": _map(small_voc.mask_of(name) > 0) for name in ids}),
        "pfan_voc": _zip({f"PFAN/{name}.png": _map(np.ones(small_voc.SIZE, bool)) for name in ids}),
        **dict.fromkeys(WEIGHTS, weights.getvalue()),
    }


def _tar(folder: Path, compression: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=f"w:{compression}") as tar:
        tar.add(folder, folder.name)
    return packed.getvalue()


def _zip(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return packed.getvalue()


def _map(salient: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.where(salient, np.uint8(200), np.uint8(0))).save(file, "PNG")
    return file.getvalue()


def register(registry: dict[str, dict], archives: dict[str, bytes]) -> None:
    """Puts the small archives' sizes and checksums in place of the real ones, and a dead mirror before all others."""
    for name, content in archives.items():
        entry = registry[name]
        entry["urls"].insert(0, f"https://dead.example/{entry['file']}")
        if "size" in entry:
            entry["size"] = len(content)
        if "sha256" in entry:
            entry["sha256"] = hashlib.sha256(content).hexdigest()[: len(entry["sha256"])]
        if "md5" in entry:
            entry["md5"] = hashlib.md5(content, usedforsecurity=False).hexdigest()


def play(server: FileServer, registry: dict[str, dict], archives: dict[str, bytes]) -> None:
    """Makes the server play the last mirror of every archive."""
    for name, content in archives.items():
        url = registry[name]["urls"][-1]
        if url.startswith("https://github.com/"):  # which sends clients on to a store
            store = f"/https/objects.githubusercontent.com/{name}"
            server.behaviours[_path(url)] = _redirection(f"https:/{store.removeprefix('/https')}")
            server.behaviours[store] = _breaking_off(content)
        elif not url.startswith(("onedrive:", "gdrive:")):
            server.behaviours[_path(url)] = _breaking_off(content)
    _play_onedrive(server, archives["saliency_voc"])
    _play_drive(server, archives["pfan_voc"])


def _path(url: str) -> str:
    return "/" + url.replace("://", "/", 1)


def _breaking_off(content: bytes):
    def send(handler: Handler) -> None:
        handler.send_file(content, stop_after=len(content) // 2 if handler.attempt == 1 else None, etag='"1"')

    return send


def _redirection(url: str):
    def send(handler: Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", url)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return send


def _play_onedrive(server: FileServer, content: bytes) -> None:
    """The share itself is refused; the short link's redirection names it; the download address works without token."""
    shares = "/https/my.microsoftpersonalcontent.com/_api/v2.0/shares/u!"
    encoded = base64.urlsafe_b64encode(ONEDRIVE_LINK.encode()).decode().rstrip("=")

    def token(handler: Handler) -> None:
        assert json.loads(handler.body) == {"appId": "5cbed6ac-a083-4e14-b191-b4ba07653de2"}
        handler.send_file(b'{"token": "secret"}', kind=_MANIFEST)

    def item(handler: Handler) -> None:
        assert handler.headers["Authorization"] == "Badger secret"
        assert handler.headers["Prefer"] == "autoredeem"
        address = f"/https/store.example/download?number={handler.attempt}"
        server.behaviours[address] = download
        found = {"size": len(content), "@content.downloadUrl": f"https:/{address.removeprefix('/https')}"}
        handler.send_file(json.dumps(found).encode(), kind=_MANIFEST)

    def download(handler: Handler) -> None:
        assert "Authorization" not in handler.headers
        whole = handler.path.endswith("=1")
        handler.send_file(content, stop_after=len(content) // 2 if whole else None, etag='"1"')

    server.behaviours |= {
        "/https/api-badgerp.svc.ms/v1.0/token": token,
        f"{shares}{encoded}/driveItem": lambda handler: handler.send_error(401),
        _path(ONEDRIVE_LINK): _redirection("https://onedrive.live.com/?redeem=again"),
        f"{shares}again/driveItem": item,
    }


def _play_drive(server: FileServer, content: bytes) -> None:
    """A page that warns of a large file comes first; its form leads to the file."""
    place = f"https://drive.usercontent.google.com/download?id={DRIVE_ID}&export=download"
    confirmed = f"/https/drive.usercontent.google.com/download?id={DRIVE_ID}&export=download&confirm=t&uuid=7"
    fields = {"id": DRIVE_ID, "export": "download", "confirm": "t", "uuid": "7"}
    inputs = "".join(f'<input type="hidden" name="{key}" value="{value}">' for key, value in fields.items())
    form = f'<form id="download-form" action="{place.partition("?")[0]}" method="get">{inputs}</form>'
    page = f"<html><title>Google Drive - Virus scan warning</title><body>{form}</body></html>".encode()
    server.behaviours |= {
        f"/https/drive.google.com/uc?id={DRIVE_ID}": _redirection(place),
        _path(place): lambda handler: handler.send_file(page, kind="text/html; charset=utf-8"),
        confirmed: lambda handler: handler.send_file(content, attachment="maps.zip"),
    }
