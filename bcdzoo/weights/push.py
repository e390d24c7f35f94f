"""Publishing weights on the Hugging Face hub: the file, a model card, and the entry for a manifest."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from bcdzoo.errors import BcdzooError
from bcdzoo.files import sha256_of
from bcdzoo.ops.count import count_ops
from bcdzoo.registry import find
from bcdzoo.weights.convert import safetensors_metadata
from bcdzoo.weights.load import FORMAT
from bcdzoo.weights.manifest import Checkpoint, load_manifest

FILENAME = "model.safetensors"

PUBLISHABLE = ("Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0")
"""Licences that allow to pass weights on; SPDX."""


class Publication(NamedTuple):
    """What is published.

    Attributes:
        weights: The file.
        repo: ``OWNER/NAME``.
        card: The model card, Markdown with metadata.
        metadata: Of the file.
        license: SPDX.
    """

    weights: Path
    repo: str
    card: str
    metadata: dict[str, str]
    license: str


def prepare(weights: Path, repo: str, license: str | None = None) -> Publication:
    """Write the model card and check that the file may be published.

    Args:
        weights: As ``bcdzoo train`` or ``bcdzoo convert`` wrote it.
        repo: ``OWNER/NAME``.
        license: Of weights of one's own; others keep theirs.

    Raises:
        BcdzooError: The file is not this zoo's, or its licence, or that of the weights it was trained from, does not
            allow it.
    """
    if repo.count("/") != 1 or not all(repo.split("/")):
        raise BcdzooError(f"{repo!r} is not a repository of the hub: write OWNER/NAME")
    if not weights.is_file():
        raise BcdzooError(f"no file {weights}")
    metadata = safetensors_metadata(weights)
    if metadata.get("format") != FORMAT or ":" in metadata["model"]:
        raise BcdzooError(f"{weights} is not a file of a network of this zoo: see `bcdzoo train` and `bcdzoo convert`")
    allowed = _license(weights, metadata, license)
    return Publication(weights, repo, _card(repo, metadata, allowed), metadata, allowed)


def push(publication: Publication, private: bool = False) -> Checkpoint:
    """Upload, as one commit.

    Args:
        publication: Of :func:`prepare`.
        private: Whether a repository that does not exist yet is to be private.

    Returns:
        The entry for a manifest, held to the commit and the file's hash.

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
        commit = api.create_commit(repo, files, commit_message=f"{publication.metadata['model']} by bcdzoo")
    except Exception as error:  # the hub's client lets its HTTP library's errors through, and has changed that library
        reason = " ".join(str(error).split())
        raise BcdzooError(f"cannot publish to {repo}: {reason}; `hf auth login` signs in") from error
    return Checkpoint(
        model=publication.metadata["model"],
        tag=repo.split("/")[0],
        source="hf",
        format="zoo",
        preprocess=publication.metadata.get("preprocess") or "imagenet",
        hf_repo=repo,
        hf_revision=commit.oid,
        filename=FILENAME,
        size=weights.stat().st_size,
        sha256=sha256_of(weights),
        build=json.loads(publication.metadata["build"]),
        license=publication.license,
        evidence=f"https://huggingface.co/{repo}",
    )


def manifest_entry(checkpoint: Checkpoint) -> str:
    """A checkpoint as TOML, for ``weights.toml`` or a file of one's own."""
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


def _license(weights: Path, metadata: dict[str, str], wanted: str | None) -> str:
    lineage = json.loads(metadata.get("lineage", "{}"))
    origins = [metadata, *(lineage[key] for key in ("parent", "initial") if lineage.get(key))]
    hashes = {sha256_of(weights)} | {origin.get(key) for origin in origins for key in ("sha256", "source_sha256")}
    for checkpoint in load_manifest().checkpoints:
        if checkpoint.sha256 and checkpoint.sha256 in hashes:
            return _allowed(f"{checkpoint.name}, which {weights.name} comes from,", checkpoint.license, wanted)
    for origin in origins:
        if "source_sha256" in origin:
            return _allowed(f"somebody's file, which {weights.name} comes from,", origin.get("license", ""), wanted)
    return _allowed(str(weights), wanted or metadata.get("license", ""), wanted)


def _allowed(what: str, license: str, wanted: str | None) -> str:
    if not license:
        raise BcdzooError(
            f"{what} has no licence that allows to publish it; for weights of your own say which with --license"
        )
    if license not in PUBLISHABLE:
        raise BcdzooError(
            f"{what} has the licence {license}; to be published it must be one of {', '.join(PUBLISHABLE)}"
        )
    if wanted not in (None, license):
        raise BcdzooError(f"{what} has the licence {license}, not {wanted}")
    return license


def _card(repo: str, metadata: dict[str, str], license: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    model = metadata["model"]
    spec = find(model)
    lineage: dict[str, Any] = json.loads(metadata.get("lineage", "{}"))
    build = json.loads(metadata["build"])
    evaluation = lineage.get("evaluation")
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
    lines = ["---", data.to_yaml(), "---", "", f"# {model}", "", f"{spec.paper}.", ""]
    lines += ["```", f"bcdzoo eval {model} --data PATH --weights {FILENAME}", "```", ""]
    if evaluation:
        lines += [
            f"{evaluation['top1']:.2f} % top-1 on the {evaluation['n']} images of {evaluation['data']['name']}.",
            "",
        ]
    lines += ["| Operations of one image | |", "|---|---|"]
    report = count_ops(model, **build)
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
        lines += [f"Converted from {metadata.get('source')}, sha256 {metadata.get('source_sha256')}.", ""]
    return "\n".join(lines)
