"""Check whether the manifest's links still lead to the files, requesting only headers."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, urlsplit

from bcdzoo.text import masked, printable
from bcdzoo.weights.manifest import Checkpoint
from bcdzoo.weights.sources import SHIPPED, direct

if TYPE_CHECKING:
    import requests

TIMEOUT = 5.0  # seconds to connect, and without a byte
AT_ONCE = 4

_NO_HEAD = (400, 403, 405, 501)  # answers of servers that only support GET
_LOGIN = ("accounts.google.com", "login.microsoftonline.com", "login.live.com")
_FILES = ("url", "files", "onedrive")  # other links are pages
_HASH_DIGITS = 64  # the hub's ETag of a large file is its SHA-256


@dataclass(frozen=True)
class Probe:
    """What a link leads to.

    Attributes:
        verdict: "ok"; "moved" permanently to another link; "differs" from what the manifest says; "gone"; "refused"
            without a login or to programs; "unreachable" at present; "by hand" if there is no link.
        text: Reason, or what was found.
    """

    verdict: Literal["ok", "moved", "differs", "gone", "refused", "unreachable", "by hand"]
    text: str


def probe_all(checkpoints: Sequence[Checkpoint]) -> Iterator[tuple[Checkpoint, Probe]]:
    """Probe the links of many checkpoints, several at once; yields them in order."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from zip(checkpoints, pool.map(probe, checkpoints), strict=True)


def probe(checkpoint: Checkpoint) -> Probe:
    """Check where a checkpoint's link leads; no file is downloaded.

    For Google Drive only the page is requested: only a download shows whether the file can be downloaded.
    """
    if checkpoint.source == "package":
        there = (SHIPPED / checkpoint.filename).is_file()
        return Probe("ok", "in this package") if there else Probe("gone", "not in this package: install bcdzoo again")
    if checkpoint.source == "hf":
        return _probe_hub(checkpoint)
    if checkpoint.files:
        return _probe_url(checkpoint, direct(checkpoint) + quote(min(checkpoint.files)))
    if not direct(checkpoint):
        return Probe("by hand", "the manifest has no link")
    return _probe_url(checkpoint, direct(checkpoint))


def head(url: str) -> "requests.Response":
    """Request a server's headers with HEAD, or with GET if it does not support HEAD.

    Raises:
        requests.RequestException: There is no answer.
    """
    from bcdzoo.weights.download import exchange

    for method in ("HEAD", "GET"):
        with exchange(method, url, {"Accept-Encoding": "identity"}, TIMEOUT, 2 * TIMEOUT) as (response, _):
            if response.status_code not in _NO_HEAD:
                break
    return response


def is_page(response: "requests.Response") -> bool:
    """Whether the answer is a web page instead of a checkpoint."""
    return response.headers.get("Content-Type", "").lower().startswith("text/html")


def _probe_url(checkpoint: Checkpoint, link: str) -> Probe:
    import requests

    from bcdzoo.weights.download import RETRIED, answer, cause, content_length

    try:
        response = head(link)
    except requests.RequestException as error:
        return Probe("unreachable", cause(error))
    said = f"the server answers {answer(response)}"
    if response.status_code in (404, 410):
        return Probe("gone", said)
    if response.status_code in RETRIED:
        return Probe("unreachable", said)
    if not response.ok:
        return Probe("refused", said)
    if urlsplit(response.url).hostname in _LOGIN:
        return Probe("refused", "it asks for a login")
    if checkpoint.source not in _FILES:
        return _whether_moved(response, "its page is there")
    if is_page(response):
        return Probe("refused", "it answers with a web page instead of a file")
    size = content_length(response)
    return _of_wrong_size(checkpoint, size) or _whether_moved(response, _size(size))


def _whether_moved(response: "requests.Response", text: str) -> Probe:
    """Return ok, unless there was a permanent redirect other than from http to https."""
    for step, after in pairwise([*response.history, response]):
        if step.is_permanent_redirect and step.url.partition(":")[2] != after.url.partition(":")[2]:
            return Probe("moved", f"to {masked(after.url)}; {text}")
    return Probe("ok", text)


def _probe_hub(checkpoint: Checkpoint) -> Probe:
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    from bcdzoo.weights.download import cause

    repo, revision = checkpoint.hf_repo, checkpoint.hf_revision
    try:
        found = get_hf_file_metadata(hf_hub_url(repo, checkpoint.filename, revision=revision), timeout=TIMEOUT)
    except errors.GatedRepoError:
        return Probe("refused", f"{repo} is gated: accept its terms on its page and log in with `hf auth login`")
    except errors.RepositoryNotFoundError:
        return Probe("gone", f"the hub has no repository {repo}, or it is private")
    except errors.RevisionNotFoundError:
        return Probe("gone", f"{repo} has no revision {revision}")
    except errors.EntryNotFoundError:
        return Probe("gone", f"{repo} has no file {checkpoint.filename} at revision {revision}")
    except Exception as error:  # the hub's client does not wrap its HTTP library's errors
        return Probe("unreachable", cause(error))
    published = "" if checkpoint.member else checkpoint.sha256 or checkpoint.sha256_prefix
    if found.etag and len(found.etag) == _HASH_DIGITS and not found.etag.startswith(published):
        return Probe("differs", f"its sha256 is {printable(found.etag)} instead of {published}")
    return _of_wrong_size(checkpoint, found.size) or Probe("ok", _size(found.size))


def _of_wrong_size(checkpoint: Checkpoint, size: int | None) -> Probe | None:
    if None in (size, checkpoint.size) or size == checkpoint.size:
        return None
    return Probe("differs", f"it has {size:,} bytes instead of {checkpoint.size:,}")


def _size(size: int | None) -> str:
    return "the file is there" if size is None else f"{size:,} bytes"
