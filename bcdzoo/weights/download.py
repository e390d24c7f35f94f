"""One file over HTTP: resumed where it stopped, tried again when the network fails, never a web page instead."""

import json
import re
import shutil
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import requests
from tqdm import tqdm

from bcdzoo.errors import BcdzooError
from bcdzoo.files import atomic_write

ATTEMPTS = 5  # in a row without progress
BACKOFF = 1.0  # seconds before the second attempt, doubled before each further one
LONGEST_WAIT = 60.0  # seconds; a server that asks for more is taken for a failure
TIMEOUT = (15.0, 60.0)  # seconds to connect, and without a byte
CHUNK = 1 << 18  # bytes; what a kill can lose

RETRIED = {408, 425, 429, 500, 502, 503, 504}
"""Statuses that may be others when asked again."""


class RefusedError(BcdzooError):
    """The server answered, and not with the file: asking again would not help."""


class _TransientError(Exception):
    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def download(url: str, part: Path, *, checked: bool = False) -> None:
    """Download ``url`` to ``part``, going on from what an earlier, interrupted call left there.

    Beside ``part``, ``<part>.json`` keeps what the server said of the file, so that bytes of two versions of it are
    never joined; with a server that gives neither ETag nor Last-Modified an interrupted download starts over, unless
    a hash will tell afterwards.

    Args:
        url: http or https.
        part: Where the bytes go. Its content is complete when the call returns, but not checked against any hash.
        checked: Whether the caller checks it against a published hash, which tells a joint of two versions.

    Raises:
        RefusedError: The server has no such file, asks for a login, or answers with a web page.
        BcdzooError: The network keeps failing.
        OSError: The file cannot be written, for example because the disk is full; what has arrived is kept.
    """
    attempt, furthest = 1, _size(part)
    with requests.Session() as session:
        while True:
            try:
                return _attempt(session, url, part, checked)
            except requests.exceptions.SSLError as error:
                raise BcdzooError(f"{url}: no trusted connection: {cause(error)}") from error
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                reason, wait = cause(error), 0.0
            except _TransientError as error:
                reason, wait = str(error), error.wait
            except requests.RequestException as error:
                raise BcdzooError(f"{url}: {cause(error)}") from error
            if _size(part) > furthest:
                attempt, furthest = 0, _size(part)
            if attempt == ATTEMPTS or wait > LONGEST_WAIT:
                asks = f" and asks to wait {wait:.0f} s" if wait > LONGEST_WAIT else ""
                raise BcdzooError(f"{url}: {reason}{asks}; gave up, run again later: what has arrived is kept")
            time.sleep(max(wait, BACKOFF * 2 ** max(attempt - 1, 0)))
            attempt += 1


def discard(part: Path) -> None:
    """Remove a partial download and what is known of it."""
    part.unlink(missing_ok=True)
    _sidecar(part).unlink(missing_ok=True)


def _attempt(session: requests.Session, url: str, part: Path, checked: bool) -> None:
    known = _read_sidecar(part)
    have = _size(part) if known.get("url") == url and (known.get("validator") or checked) else 0
    if have and have == known["length"]:
        return
    headers = {"Accept-Encoding": "identity"}  # ranges and lengths must count the file's own bytes
    if have:
        headers["Range"] = f"bytes={have}-"
        if known["validator"]:
            headers["If-Range"] = known["validator"]

    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == 416 and have:
            if response.headers.get("Content-Range") == f"bytes */{have}":
                return  # complete: the server had not told its length
            discard(part)
            raise _TransientError("the server rejects the rest of the file")
        _check_status(response, url)
        if response.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise RefusedError(f"{url} answers with a web page instead of a file (a login, a quota, an error)")

        resumed = response.status_code == 206
        if resumed and not _continues(response, known, have):
            discard(part)
            raise _TransientError("the server sends another part of the file than asked for")
        length = known["length"] if resumed else content_length(response)
        if length is not None and shutil.disk_usage(part.parent).free < length - have * resumed:
            raise BcdzooError(
                f"{url} has {length:,} bytes, too many for {part.parent}: free some room or set BCDZOO_HOME elsewhere"
            )
        with part.open("ab" if resumed else "wb") as file:
            if not resumed:  # after the truncation: old bytes must never stand beside a new validator
                have = 0
                _write_sidecar(part, {"url": url, "validator": _validator(response), "length": length})
            # disable=None: only when stderr is a terminal
            with tqdm(total=length, initial=have, unit="B", unit_scale=True, desc=part.stem, disable=None) as bar:
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    file.flush()
                    bar.update(len(chunk))
    if length is not None and _size(part) != length:
        raise _TransientError(f"{_size(part):,} of {length:,} bytes arrived")


def _check_status(response: requests.Response, url: str) -> None:
    status = response.status_code
    if status in RETRIED:
        raise _TransientError(f"the server answers {status} {response.reason}", _retry_after(response))
    if status in (401, 403):
        raise RefusedError(f"{url}: the server does not allow it ({status} {response.reason})")
    if status not in (200, 206):
        raise RefusedError(f"{url}: the server has no such file ({status} {response.reason})")


def _retry_after(response: requests.Response) -> float:
    value = response.headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        return (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):  # absent, not a date, or one without a zone
        return 0.0


def content_length(response: requests.Response) -> int | None:
    """Bytes of the file that a server is about to send, if it tells."""
    value = response.headers.get("Content-Length", "")
    return int(value) if value.isdecimal() and _is_plain(response) else None


def _validator(response: requests.Response) -> str:
    etag = response.headers.get("ETag", "")
    strong = "" if etag.startswith("W/") else etag
    return (strong or response.headers.get("Last-Modified", "")) if _is_plain(response) else ""


def _is_plain(response: requests.Response) -> bool:
    return response.headers.get("Content-Encoding", "identity") == "identity"


def _continues(response: requests.Response, known: dict[str, Any], have: int) -> bool:
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if not (have and match and int(match[1]) == have):
        return False
    if known["length"] is not None and match[2] not in ("*", str(known["length"])):
        return False
    return _validator(response) in ("", known["validator"])  # for a server that ignores If-Range


def cause(error: Exception) -> str:
    """What went wrong with a connection, in one line."""
    inner = error.args[0] if error.args else error
    inner = getattr(inner, "reason", None) or inner  # urllib3's MaxRetryError says no more than its cause
    return " ".join(f"{type(error).__name__}: {inner}".split())


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sidecar(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_sidecar(part: Path) -> dict[str, Any]:
    try:
        known: dict[str, Any] = json.loads(_sidecar(part).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return known


def _write_sidecar(part: Path, known: dict[str, Any]) -> None:
    with atomic_write(_sidecar(part)) as temporary:
        temporary.write_text(json.dumps(known))
