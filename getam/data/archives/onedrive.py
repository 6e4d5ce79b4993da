"""Download addresses of OneDrive share links, as OneDrive's own web page asks for them.

The interface is not documented, and the older one for anonymous clients has answered 401 since 2025. In order:

    a  a token for anonymous clients, good for days
    b  the item behind the share, with a download address that soon expires
    c  where b is refused, the short link's redirection names the share or the item itself
"""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import requests

_TOKEN = "https://api-badgerp.svc.ms/v1.0/token"
_SHARES = "https://my.microsoftpersonalcontent.com/_api/v2.0/shares"
_DRIVES = "https://api.onedrive.com/v1.0/drives"
_APPLICATION = {"appId": "5cbed6ac-a083-4e14-b191-b4ba07653de2"}


class OneDriveError(Exception):
    """OneDrive gave no download address; the message has the answer of each step."""


@dataclass(frozen=True)
class Item:
    """A file behind a share link. url: expires soon, and is asked for without the token."""

    url: str
    size: int | None = None
    sha256: str | None = None


def find_item(session: requests.Session, link: str, timeout: tuple[float, float]) -> Item:
    """Asks for the file behind a share link, such as https://1drv.ms/u/s!...

    Raises:
        OneDriveError: every way was refused.
        requests.RequestException: a connection failed.
    """
    refusals: list[str] = []
    headers = {"Prefer": "autoredeem"}
    answer = session.post(_TOKEN, json=_APPLICATION, headers={"AppId": "1141147648"}, timeout=timeout)
    token = _content(answer).get("token")
    if token:
        headers["Authorization"] = f"Badger {token}"
    else:
        refusals.append(f"token: HTTP {answer.status_code}")
    for url in _addresses(session, link, timeout, refusals):
        answer = session.get(url, headers=headers, timeout=timeout)
        if item := _item(_content(answer)):
            return item
        refusals.append(f"{urlsplit(url).path[:40]}: HTTP {answer.status_code}")
    raise OneDriveError(f"OneDrive refuses programs ({'; '.join(refusals)})")


def _addresses(
    session: requests.Session, link: str, timeout: tuple[float, float], refusals: list[str]
) -> Iterator[str]:
    """Addresses of the item's description; the short link is asked only if the share itself was refused."""
    encoded = base64.urlsafe_b64encode(link.encode()).decode().rstrip("=")
    yield f"{_SHARES}/u!{encoded}/driveItem"
    answer = session.get(link, allow_redirects=False, timeout=timeout)
    query = parse_qs(urlsplit(answer.headers.get("Location", "")).query)
    if "redeem" in query:
        yield f"{_SHARES}/u!{query['redeem'][0]}/driveItem"
    elif {"resid", "authkey"} <= query.keys():
        resid = query["resid"][0]
        drive = query.get("cid", [resid.partition("!")[0]])[0]
        yield f"{_DRIVES}/{drive}/items/{resid}?authkey={query['authkey'][0]}"
    else:
        refusals.append(f"{link}: HTTP {answer.status_code} without the share's name")


def _content(answer: requests.Response) -> dict:
    if answer.status_code >= 400:
        return {}
    try:
        content = answer.json()
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _item(content: dict) -> Item | None:
    url = content.get("@content.downloadUrl")
    if not isinstance(url, str):
        return None
    size, hashes = content.get("size"), content.get("file", {}).get("hashes", {})
    sha256 = hashes.get("sha256Hash")
    return Item(url, size if isinstance(size, int) else None, sha256.lower() if isinstance(sha256, str) else None)
