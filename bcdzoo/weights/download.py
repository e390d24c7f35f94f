"""One file over HTTP: resumed where it stopped, tried again when the network fails, never more than it should be."""

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
from bcdzoo.weights.sources import LARGEST, UNPACKED

ATTEMPTS = 5  # in a row without progress
BACKOFF = 1.0  # seconds before the second attempt, doubled before each further one
LONGEST_WAIT = 60.0  # seconds; a server that asks for more is taken for a failure
TIMEOUT = (15.0, 30.0)  # seconds to connect, and without a byte
PATIENCE = 45.0  # seconds for an answer's headers, and for each piece of its body
PIECE = 1 << 14  # bytes
REDIRECTS = 10

RETRIED = {408, 425, 429, 500, 502, 503, 504}
"""Statuses that may be others when asked again."""


class RefusedError(BcdzooError):
    """The server answered, and not with the file: asking again would not help."""


class _TransientError(Exception):
    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class SlowError(requests.Timeout):
    """The server sends, but too little."""


def download(
    url: str,
    part: Path,
    *,
    checked: bool = False,
    size: int | None = None,
    most: int | None = None,
    session: requests.Session | None = None,
) -> None:
    """Download ``url`` to ``part``, going on from what an earlier, interrupted call left there.

    Beside ``part``, ``<part>.json`` keeps what the server said of the file, so that bytes of two versions of it are
    never joined; with a server that gives neither ETag nor Last-Modified an interrupted download starts over, unless
    a hash will tell afterwards.

    Args:
        url: http or https.
        part: Where the bytes go. Its content is complete when the call returns, but not checked against any hash.
        checked: Whether the caller checks it against a published hash, which tells a joint of two versions.
        size: Bytes that the file must have, if that is known.
        most: Bytes that it may have where nobody tells how many it has; :data:`LARGEST` if omitted.
        session: Connections that several files share; the caller shows how far it is with them.

    Raises:
        RefusedError: The server has no such file, asks for a login, or answers with a web page.
        BcdzooError: The network keeps failing, or more bytes come than can be right.
        OSError: The file cannot be written, for example because the disk is full; what has arrived is kept.
    """
    shown = masked(url)
    own_place(part)
    attempt, furthest = 1, _size(part)
    while True:
        try:
            return _attempt(url, part, checked, size, most or LARGEST, session)
        except SlowError as error:
            raise BcdzooError(f"{shown}: {error}; gave up, run again later: what has arrived is kept") from None
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
            raise BcdzooError(f"{shown}: {reason}{asks}; gave up, run again later: what has arrived is kept")
        time.sleep(max(wait, BACKOFF * 2 ** max(attempt - 1, 0)))
        attempt += 1


def discard(part: Path) -> None:
    """Remove a partial download and what is known of it."""
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
                return  # complete: the server had not told its length
            discard(part)
            raise _TransientError("the server rejects the rest of the file")
        _check_status(response, shown)
        if response.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise RefusedError(f"{shown} answers with a web page instead of a file (a login, a quota, an error)")
        if (encoding := _encoding(response)) not in ("identity", "gzip", "x-gzip", "deflate"):
            raise RefusedError(f"{shown}: the server sends it compressed ({printable(encoding, 50)}), unlike asked")

        resumed = response.status_code == 206
        if resumed and not _continues(response, known, have):
            discard(part)
            raise _TransientError("the server sends another part of the file than asked for")
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
    """How many bytes the file may have, and what to say if more come.

    Raises:
        BcdzooError: The server says itself that there are too many, or others than there should be.
    """
    if size is not None and length not in (None, size):
        raise BcdzooError(f"{shown} has {length:,} bytes instead of {size:,}")
    free = shutil.disk_usage(part.parent).free
    if length is not None:
        if free < length - have:
            room = "free some room or set BCDZOO_HOME elsewhere"
            raise BcdzooError(f"{shown} has {length:,} bytes, too many for {part.parent}: {room}")
        return length, f"{shown} sends more than the {length:,} bytes that it has announced"
    if size is not None:
        return size, f"{shown} sends more than the {size:,} bytes that the file should have"
    packed = _whole_number(response.headers.get("Content-Length", ""))
    if packed is not None:  # compressed: otherwise it would be the length
        most = UNPACKED * packed
        return most, f"{shown} sends {packed:,} bytes that unpack to more than {most:,}: no weights do"
    most = min(most, have + free * 9 // 10)
    return most, (
        f"{shown} sends more than {most:,} bytes without telling how many: give the size in a manifest, or free some "
        "room or set BCDZOO_HOME elsewhere"
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
    """A server's answer, and the pieces of its body as they come, each in reasonable time.

    A connection's own timeout begins anew with every byte, and so a server could keep it for ever by sending one now
    and then. The connection is therefore another thread's, which is waited for and, if need be, left alone.

    Args:
        method: GET or HEAD.
        url: http or https.
        headers: Of the request.
        timeout: Seconds to connect, and without a byte.
        patience: Seconds for the headers, and for each piece of the body; :data:`PATIENCE` if omitted.
        session: Connections to use again; new ones if omitted.

    Raises:
        requests.RequestException: The network fails, the server does not speak HTTP, or the URL is none.
    """
    arrived: Queue[Any] = Queue(8)
    left_alone = Event()

    def hand_over(item: Any) -> None:
        while not left_alone.is_set():
            with suppress(Full):
                return arrived.put(item, timeout=1)

    def converse() -> None:
        try:
            with nullcontext(session) if session else requests.Session() as connections:
                connections.max_redirects = REDIRECTS
                with connections.request(method, url, headers=headers, stream=True, timeout=timeout) as response:
                    hand_over(response)
                    for piece in response.iter_content(PIECE):
                        if left_alone.is_set():
                            return
                        hand_over(piece)
            hand_over(None)
        except (ValueError, HTTPException, urllib3.exceptions.HTTPError) as error:  # that requests lets through
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
        left_alone.set()


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
    """Bytes of the file that a server is about to send, if it tells."""
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
    """What went wrong with a connection, in one line."""
    inner = error.args[0] if error.args else error
    inner = getattr(inner, "reason", None) or inner  # urllib3's MaxRetryError says no more than its cause
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
