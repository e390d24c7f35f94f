"""Publish weights on the Hugging Face hub: the file, a model card, and the entry for a manifest."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from bcdzoo.custom_model import import_network
from bcdzoo.data.preprocess import parse
from bcdzoo.errors import BcdzooError
from bcdzoo.files import require_regular, sha256_of
from bcdzoo.ops.count import count_ops
from bcdzoo.registry import REGISTRY, find, zoo_name
from bcdzoo.text import printable
from bcdzoo.weights.hub import FILENAME, PREFIX
from bcdzoo.weights.load import assume, load_into, resolve
from bcdzoo.weights.manifest import Checkpoint, load_manifest
from bcdzoo.weights.metadata import Metadata, read_metadata

PUBLISHABLE = ("Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0")
"""Licenses that allow redistribution of weights (SPDX)."""


class Publication(NamedTuple):
    """The content of a publication.

    Attributes:
        weights: File of weights.
        repo: ``OWNER/NAME``.
        card: Model card, Markdown with metadata.
        said: Metadata of the file.
        license: SPDX identifier.
    """

    weights: Path
    repo: str
    card: str
    said: Metadata
    license: str


def prepare_publication(weights: Path, repo: str, license: str | None = None, model: str | None = None) -> Publication:
    """Write the model card and check that the file may be published.

    Args:
        weights: File written by ``bcdzoo train`` or ``bcdzoo convert``.
        repo: ``OWNER/NAME``.
        license: License of your own weights; others keep theirs.
        model: Name ``package.module:callable`` of your own network, which is not called because a file names it.

    Raises:
        BcdzooError: The file is not this zoo's, or holds another network; or its license, or that of the weights it was
            trained from, does not allow it.
    """
    if repo.count("/") != 1 or not all(repo.split("/")):
        raise BcdzooError(f"{repo!r} is not a repository of the hub: write OWNER/NAME")
    require_regular(weights)
    said = read_metadata(weights)
    if said is None:
        raise BcdzooError(f"{weights} is not a file of this zoo: see `bcdzoo train` and `bcdzoo convert`")
    holds = printable(said.model, 100)
    if model is not None and zoo_name(model) != said.model:
        raise BcdzooError(f"{weights} says that it holds {holds}, not {model}")
    # what cannot be loaded is not published
    if said.model in REGISTRY:
        resolve(said.model, weights)
    elif model is not None:
        load_into(import_network(said.model, **said.build), weights)
    else:
        raise BcdzooError(f"{weights} says that it holds {holds}, which is no network of this zoo: name it by --model")
    allowed = _license(weights, said, license)
    return Publication(weights, repo, _card(repo, said, allowed), said, allowed)


def push(publication: Publication, private: bool = False) -> Checkpoint:
    """Upload a publication as one commit.

    Args:
        publication: Result of :func:`prepare_publication`.
        private: Whether to create a missing repository as private.

    Returns:
        The entry for a manifest, pinned to the commit and the file's hash.

    Raises:
        BcdzooError: The hub refuses or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    weights, repo = publication.weights, publication.repo
    api = HfApi()
    files = [
        CommitOperationAdd(FILENAME, str(weights)),
        CommitOperationAdd("README.md", publication.card.encode()),
    ]
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        commit = api.create_commit(repo, files, commit_message=f"{publication.said.model} by bcdzoo")
    except Exception as error:  # the hub's client does not wrap its HTTP library's errors
        reason = " ".join(str(error).split())
        raise BcdzooError(f"cannot publish to {repo}: {reason}; `hf auth login` signs in") from error
    return Checkpoint(
        model=publication.said.model,
        tag=repo.split("/")[0],
        source="hf",
        format="zoo",
        preprocess=publication.said.preprocess or str(assume(publication.said.model)),
        hf_repo=repo,
        hf_revision=commit.oid,
        filename=FILENAME,
        size=weights.stat().st_size,
        sha256=sha256_of(weights),
        build=publication.said.build,
        license=publication.license,
        evidence=f"https://huggingface.co/{repo}",
    )


def manifest_entry(checkpoint: Checkpoint) -> str:
    """Format a checkpoint as TOML, for ``weights.toml`` or a user's manifest."""
    keys = (
        *("model", "tag", "source", "hf_repo", "hf_revision", "filename", "size", "sha256"),
        *("format", "build", "preprocess", "license", "evidence"),
    )
    lines = []
    for key in keys:
        value = getattr(checkpoint, key)
        if isinstance(value, dict):
            value = "{ " + ", ".join(f"{name} = {json.dumps(entry)}" for name, entry in value.items()) + " }"
            if value == "{  }":
                continue
        else:
            value = json.dumps(value)
        lines.append(f"{key} = {value}")
    return "\n".join(["[[checkpoint]]", *lines])


def _license(weights: Path, said: Metadata, wanted: str | None) -> str:
    parents = [said.lineage[key] for key in ("parent", "initial") if said.lineage.get(key)]
    if not all(isinstance(parent, dict) for parent in parents):
        raise BcdzooError(f"{weights} does not say what it was trained from, and so not who may publish it")
    own = {"license": said.license} | ({"source_sha256": said.source_sha256} if said.source_sha256 else {})
    origins: list[dict[str, Any]] = [own, *parents]
    hashes = [sha256_of(weights), *(origin.get(key) for origin in origins for key in ("sha256", "source_sha256"))]
    for checkpoint in load_manifest().checkpoints:
        if checkpoint.sha256 and checkpoint.sha256 in hashes:
            return _allowed(f"{checkpoint.name}, which {weights.name} comes from,", checkpoint.license, wanted)
    for origin in origins:
        if "source_sha256" in origin:
            license = str(origin.get("license") or "")
            return _allowed(f"the file from which {weights.name} was converted", license, wanted)
    return _allowed(str(weights), wanted or said.license, wanted)


def _allowed(what: str, license: str, wanted: str | None) -> str:
    if not license:
        raise BcdzooError(
            f"{what} has no licence that allows publishing it; for your own weights, state one with --license"
        )
    if license not in PUBLISHABLE:
        raise BcdzooError(
            f"{what} has the licence {printable(license, 60)}; to be published it must be one of "
            f"{', '.join(PUBLISHABLE)}"
        )
    if wanted not in (None, license):
        raise BcdzooError(f"{what} has the licence {printable(license, 60)}, not {wanted}")
    return license


def _evaluation(lineage: dict[str, Any]) -> dict[str, Any] | None:
    """Return the evaluation in a lineage; None if there is none, or it is malformed."""
    found = lineage.get("evaluation")
    if not isinstance(found, dict) or not isinstance(found.get("data"), dict):
        return None
    sane = all(isinstance(found.get(key), int | float) for key in ("top1", "top5", "n"))
    return found if sane and isinstance(found["data"].get("name"), str) else None


def _origin(model: str) -> list[str]:
    if model in REGISTRY:
        return [f"{find(model).paper}.", ""]
    return ["A network that is not of the zoo: its code is needed beside the weights, where Python can import it.", ""]


def _input_size(said: Metadata) -> int | None:
    """None for the network's own."""
    return parse(said.preprocess).crop if said.preprocess and said.model not in REGISTRY else None


def _card(repo: str, said: Metadata, license: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    model, lineage = said.model, said.lineage
    evaluation = _evaluation(lineage)
    results = []
    if evaluation:
        results = [
            EvalResult(
                task_type="image-classification",
                dataset_type=evaluation["data"]["name"],
                dataset_name=evaluation["data"]["name"],
                metric_type="accuracy",
                metric_name=f"top-{k}",
                metric_value=round(evaluation[f"top{k}"], 2),
            )
            for k in (1, 5)
        ]
    data = ModelCardData(
        license=license.lower(),
        library_name="bcdzoo",
        pipeline_tag="image-classification",
        tags=["binary-neural-network", "bnn", model],
        model_name=model if results else None,
        eval_results=results or None,
    )
    lines = ["---", data.to_yaml(), "---", "", f"# {printable(model, 100)}", "", *_origin(model)]
    usage = f"eval {PREFIX}{repo}" if model in REGISTRY else f"eval {model} --weights {PREFIX}{repo}"
    lines += ["```", f"bcdzoo {usage} --data PATH", "```", ""]
    if evaluation:
        lines += [
            f"{evaluation['top1']:.2f} % top-1 on the {evaluation['n']} images of "
            f"{printable(evaluation['data']['name'], 100)}.",
            "",
        ]
    lines += ["| Operations of one image | |", "|---|---|"]
    report = count_ops(model, input_size=_input_size(said), **said.build)
    for name, count in (
        ("BOPs", report.bops),
        ("FLOPs", report.flops),
        ("OPs", report.ops),
        ("parameters", report.params),
    ):
        lines.append(f"| {name} | {count:,} |")
    lines += ["", "## Where the weights come from", ""]
    if lineage:
        lines += ["```json", json.dumps(lineage, indent=1, sort_keys=True), "```", ""]
    else:
        lines += [f"Converted from {printable(said.source, 200)}, sha256 {printable(said.source_sha256, 64)}.", ""]
    return "\n".join(lines)
