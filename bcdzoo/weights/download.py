"""Download one file over HTTP: resumed, retried when the network fails, and never larger than it should be."""

import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any

import requests
import urllib3
from tqdm import tqdm

from bcdzoo.errors import BcdzooError
from bcdzoo.files import own_place
from bcdzoo.seal import read_json, write_json
from bcdzoo.text import masked, printable
from bcdzoo.weights.limits import LARGEST, UNPACKED

ATTEMPTS = 5  # in a row without progress
BACKOFF = 1.0  # seconds before the second attempt, doubled before each further one
LONGEST_WAIT = 60.0  # seconds; a server that asks for more counts as failed
TIMEOUT = (15.0, 30.0)  # seconds to connect, and without a byte
PATIENCE = 45.0  # seconds for an answer's headers, and for each piece of its body
PIECE = 1 << 14  # bytes
REDIRECTS = 10

RETRIED = {408, 425, 429, 500, 502, 503, 504}
"""Statuses worth a retry."""


class RefusedError(BcdzooError):
    """The server answered, but not with the file: retrying would not help."""


class _TransientError(Exception):
    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class SlowError(requests.Timeout):
    """The server sends too slowly."""


def download(
    url: str,
    part: Path,
    *,
    checked: bool = False,
    size: int | None = None,
    most: int | None = None,
    session: requests.Session | None = None,
) -> None:
    """Download ``url`` to ``part``, resuming what an interrupted call left there.

    ``<part>.json`` stores the server's validator of the file, so that bytes of two versions are never joined. If a
    server sends neither ETag nor Last-Modified, an interrupted download starts over, unless a hash is checked later.

    Args:
        url: Address, http or https.
        part: File to write. It is complete when the call returns, but not checked against any hash.
        checked: Whether the caller checks a published hash, which would detect a mix of two versions.
        size: Size of the file in bytes, if known.
        most: Largest size in bytes, where the size is unknown; :data:`LARGEST` if omitted.
        session: Connections shared by several files, whose progress the caller shows.

    Raises:
        RefusedError: The server has no such file, asks for a login, or answers with a web page.
        BcdzooError: The network keeps failing, or too many bytes arrive.
        OSError: The file cannot be written, for example because the disk is full; what has arrived is kept.
    """
    shown = masked(url)
    own_place(part)
    attempt, furthest = 1, _size(part)
    while True:
        try:
            return _attempt(url, part, checked, size, most or LARGEST, session)
        except SlowError as error:
            raise BcdzooError(f"{shown}: {error}; gave up; run again later, what has arrived is kept") from None
        except requests.exceptions.SSLError as error:
            raise BcdzooError(f"{shown}: no trusted connection: {cause(error)}") from error
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            reason, wait = cause(error), 0.0
        except _TransientError as error:
            reason, wait = str(error), error.wait
        except requests.RequestException as error:
            raise BcdzooError(f"{shown}: {cause(error)}") from error
        if _size(part) > furthest:
            attempt, furthest = 0, _size(part)
        if attempt == ATTEMPTS or wait > LONGEST_WAIT:
            asks = f" and asks to wait {wait:.0f} s" if wait > LONGEST_WAIT else ""
            raise BcdzooError(f"{shown}: {reason}{asks}; gave up; run again later, what has arrived is kept")
        time.sleep(max(wait, BACKOFF * 2 ** max(attempt - 1, 0)))
        attempt += 1


def discard(part: Path) -> None:
    """Remove a partial download and its sidecar file."""
    part.unlink(missing_ok=True)
    _sidecar(part).unlink(missing_ok=True)


def _attempt(
    url: str, part: Path, checked: bool, size: int | None, most: int, session: requests.Session | None
) -> None:
    known, shown = _read_sidecar(part), masked(url)
    have = _size(part) if known.get("url") == shown and (known.get("validator") or checked) else 0
    if have and have == known["length"]:
        return
    headers = {"Accept-Encoding": "identity"}  # ranges and lengths must count the file's own bytes
    if have:
        headers["Range"] = f"bytes={have}-"
        if known["validator"]:
            headers["If-Range"] = known["validator"]

    with exchange("GET", url, headers, TIMEOUT, session=session) as (response, pieces):
        if response.status_code == 416 and have:
            if response.headers.get("Content-Range") == f"bytes */{have}":
                return  # complete: the server had not sent a length
            discard(part)
            raise _TransientError("the server rejects the rest of the file")
        _check_status(response, shown)
        if response.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise RefusedError(f"{shown} answers with a web page instead of a file (a login, a quota, an error)")
        if (encoding := _encoding(response)) not in ("identity", "gzip", "x-gzip", "deflate"):
            raise RefusedError(
                f"{shown}: the server sends it compressed ({printable(encoding, 50)}), which was not requested"
            )

        resumed = response.status_code == 206
        if resumed and not _continues(response, known, have):
            discard(part)
            raise _TransientError("the server sends a different part of the file than requested")
        have *= resumed
        length = known["length"] if resumed else content_length(response)
        most, too_much = _most(response, shown, part, have, length, size, most)
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | (os.O_APPEND if resumed else os.O_TRUNC)
        with os.fdopen(os.open(part, flags, 0o666), "ab" if resumed else "wb") as file:
            if not resumed:  # after the truncation: old bytes must never stand beside a new validator
                sidecar = _sidecar(part)
                own_place(sidecar)
                write_json(sidecar, {"url": shown, "validator": _validator(response), "length": length})
            hidden = True if session else None  # None: shown only when stderr is a terminal
            with tqdm(total=length, initial=have, unit="B", unit_scale=True, desc=part.stem, disable=hidden) as bar:
                for piece in pieces:
                    have += len(piece)
                    if encoding != "identity" and have > UNPACKED * (packed := max(response.raw.tell(), 1 << 16)):
                        most, too_much = 0, f"{shown}: the first {packed:,} bytes unpack to {have:,}: weights do not"
                    if have > most:
                        discard(part)
                        raise BcdzooError(too_much)
                    file.write(piece)
                    file.flush()
                    bar.update(len(piece))
    if length is not None and _size(part) != length:
        raise _TransientError(f"{_size(part):,} of {length:,} bytes arrived")


def _most(
    response: requests.Response, shown: str, part: Path, have: int, length: int | None, size: int | None, most: int
) -> tuple[int, str]:
    """Return how many bytes the file may have, and the error message if more arrive.

    Raises:
        BcdzooError: The server announces a wrong size, or one that does not fit on the disk.
    """
    if size is not None and length not in (None, size):
        raise BcdzooError(f"{shown} has {length:,} bytes instead of {size:,}")
    free = shutil.disk_usage(part.parent).free
    if length is not None:
        if free < length - have:
            room = "free some space or set BCDZOO_HOME to another disk"
            raise BcdzooError(f"{shown} has {length:,} bytes, too many for {part.parent}: {room}")
        return length, f"{shown} sends more than the {length:,} bytes that it announced"
    if size is not None:
        return size, f"{shown} sends more than the {size:,} bytes that the file should have"
    packed = _whole_number(response.headers.get("Content-Length", ""))
    if packed is not None:  # compressed: otherwise it would be the length
        most = UNPACKED * packed
        return most, f"{shown} sends {packed:,} bytes that unpack to more than {most:,}: weights do not"
    most = min(most, have + free * 9 // 10)
    return most, (
        f"{shown} sends more than {most:,} bytes without announcing a size: give it in a manifest, or free some "
        "space or set BCDZOO_HOME to another disk"
    )


@contextmanager
def exchange(
    method: str,
    url: str,
    headers: Mapping[str, str],
    timeout: float | tuple[float, float],
    patience: float = 0,
    session: requests.Session | None = None,
) -> Iterator[tuple[requests.Response, Iterator[bytes]]]:
    """Yield a server's response and the pieces of its body as they arrive, each within a time limit.

    A connection's own timeout restarts with every byte, so a server could hold it forever by sending one now and then.
    The connection therefore runs in another thread, which is abandoned if it takes too long.

    Args:
        method: GET or HEAD.
        url: Address, http or https.
        headers: Headers of the request.
        timeout: Seconds to connect, and to wait for a byte.
        patience: Seconds for the headers, and for each piece of the body; :data:`PATIENCE` if omitted.
        session: Connections to use again; new ones if omitted.

    Raises:
        requests.RequestException: The network fails, the server does not speak HTTP, or the URL is invalid.
    """
    arrived: Queue[Any] = Queue(8)
    abandoned = Event()

    def hand_over(item: Any) -> None:
        while not abandoned.is_set():
            with suppress(Full):
                return arrived.put(item, timeout=1)

    def converse() -> None:
        try:
            with nullcontext(session) if session else requests.Session() as connections:
                connections.max_redirects = REDIRECTS
                with connections.request(method, url, headers=headers, stream=True, timeout=timeout) as response:
                    hand_over(response)
                    for piece in response.iter_content(PIECE):
                        if abandoned.is_set():
                            return
                        hand_over(piece)
            hand_over(None)
        except (ValueError, HTTPException, urllib3.exceptions.HTTPError) as error:  # not wrapped by requests
            known = isinstance(error, requests.RequestException)
            hand_over(error if known else requests.RequestException(f"{type(error).__name__}: {error}"))
        except Exception as error:
            hand_over(error)

    patience = patience or PATIENCE

    def next_one() -> Any:
        try:
            item = arrived.get(timeout=patience)
        except Empty:
            raise SlowError(f"fewer than {PIECE:,} bytes came in {patience:.0f} s") from None
        if isinstance(item, Exception):
            raise item
        return item

    Thread(target=converse, daemon=True).start()
    try:
        yield next_one(), iter(next_one, None)
    finally:
        abandoned.set()


def _check_status(response: requests.Response, shown: str) -> None:
    status = response.status_code
    if status in RETRIED:
        raise _TransientError(f"the server answers {answer(response)}", _retry_after(response))
    if status in (401, 403):
        raise RefusedError(f"{shown}: the server does not allow it ({answer(response)})")
    if status not in (200, 206):
        raise RefusedError(f"{shown}: the server has no such file ({answer(response)})")


def answer(response: requests.Response) -> str:
    """A server's status and its reason."""
    return f"{response.status_code} {printable(response.reason, 100)}"


def _retry_after(response: requests.Response) -> float:
    value = response.headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        return (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError, OverflowError):  # absent, not a date, or one without a zone
        return 0.0


def content_length(response: requests.Response) -> int | None:
    """Size of the file that a server is about to send, in bytes, if announced."""
    return _whole_number(response.headers.get("Content-Length", "")) if _encoding(response) == "identity" else None


def _whole_number(text: str) -> int | None:
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None


def _validator(response: requests.Response) -> str:
    etag = response.headers.get("ETag", "")
    strong = "" if etag.startswith("W/") else etag
    return (strong or response.headers.get("Last-Modified", "")) if _encoding(response) == "identity" else ""


def _encoding(response: requests.Response) -> str:
    return response.headers.get("Content-Encoding", "identity").strip().lower() or "identity"


def _continues(response: requests.Response, known: dict[str, Any], have: int) -> bool:
    match = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]+/([0-9]+|\*)", response.headers.get("Content-Range", ""))
    if not (have and match and int(match[1]) == have):
        return False
    if known["length"] is not None and match[2] not in ("*", str(known["length"])):
        return False
    return _validator(response) in ("", known["validator"])  # for a server that ignores If-Range


def cause(error: Exception) -> str:
    """Describe a connection error in one line."""
    inner = error.args[0] if error.args else error
    inner = getattr(inner, "reason", None) or inner  # urllib3's MaxRetryError adds nothing to its cause
    return printable(masked(" ".join(f"{type(error).__name__}: {inner}".split())), 500)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sidecar(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_sidecar(part: Path) -> dict[str, Any]:
    try:
        known, checked = read_json(_sidecar(part))
    except (FileNotFoundError, BcdzooError):
        return {}
    return known if checked else {}
