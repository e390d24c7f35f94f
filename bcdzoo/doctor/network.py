"""The hub, a mirror, and the manifest's links."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import requests

from bcdzoo.doctor.finding import Finding
from bcdzoo.errors import BcdzooError
from bcdzoo.weights.download import RETRIED, answer, cause
from bcdzoo.weights.links import AT_ONCE, Probe, head, is_page, probe_all
from bcdzoo.weights.manifest import Checkpoint, Manifest
from bcdzoo.weights.sources import by_browser, mirror, offline, places_in_mirror


def hub() -> Finding:
    """Whether the Hugging Face hub answers."""
    from huggingface_hub import constants

    if variable := offline():
        return Finding("note", "hub", f"not checked: {variable} is set")
    advice = "check the network or proxy; HF_ENDPOINT and BCDZOO_MIRROR set other sources"
    endpoint = constants.ENDPOINT
    try:
        response = head(endpoint)
    except requests.RequestException as error:
        return Finding("note", "hub", f"{endpoint} cannot be reached: {cause(error)}", advice)
    if response.status_code in RETRIED:
        return Finding("note", "hub", f"{endpoint} answers {answer(response)}", "try again later")
    return Finding("ok", "hub", f"{endpoint} answers")


def mirror_health(manifest: Manifest) -> Iterator[Finding]:
    """Whether the mirror is there, if one is set, and how many of the manifest's files it has."""
    advice = "set BCDZOO_MIRROR right, or unset it"
    try:
        given = mirror()
        if given is None:
            return
        if isinstance(given, str) and (variable := offline()):
            yield Finding("note", "mirror", f"{given} is not checked: {variable} is set")
            return
        wanted = [checkpoint for checkpoint in manifest.checkpoints if checkpoint.source != "package"]
        count = _count_in_folder(given, wanted) if isinstance(given, Path) else _count_at_url(given, wanted)
    except BcdzooError as error:
        yield Finding("problem", "mirror", str(error), advice)
    except requests.RequestException as error:
        text = f"{given} cannot be reached, so nothing can be fetched: {cause(error)}"
        yield Finding("problem", "mirror", text, advice)
    else:
        text = f"{given} has {count} of {len(wanted)} files of the manifest"
        hint = "" if count else "lay it out as a cache's folder checkpoints"
        yield Finding("ok" if count else "note", "mirror", text, hint)


def links(manifest: Manifest) -> Iterator[Finding]:
    """Where every link of the manifest leads."""
    if variable := offline():
        yield Finding("note", "links", f"not probed: {variable} is set")
        return
    for checkpoint, found in probe_all(manifest.checkpoints):
        yield _link(checkpoint, found)


def _link(checkpoint: Checkpoint, found: Probe) -> Finding:
    subject, text = f"link {checkpoint.name}", f"{found.verdict}: {found.text}"
    match found.verdict:
        case "ok":
            return Finding("ok", subject, text)
        case "moved":
            return Finding("note", subject, text, "give the new link in a manifest of your own")
        case "unreachable":
            return Finding("note", subject, text, "try again later")
        case "refused" | "by hand":
            return Finding("note", subject, text, by_browser(checkpoint))
    advice = "take another --tag, or a file you have with --from; a manifest of your own may give another link"
    return Finding("problem", subject, text, advice)


def _count_in_folder(folder: Path, checkpoints: list[Checkpoint]) -> int:
    return sum(any((folder / place).is_file() for place in places_in_mirror(each)) for each in checkpoints)


def _count_at_url(base: str, checkpoints: list[Checkpoint]) -> int:
    if (response := head(base)).status_code in RETRIED:
        raise BcdzooError(f"{base} answers {answer(response)}")

    def has(checkpoint: Checkpoint) -> bool:
        answers = (head(f"{base}/{quote(place)}") for place in places_in_mirror(checkpoint))
        return any(answer.ok and not is_page(answer) for answer in answers)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return sum(pool.map(has, checkpoints))
