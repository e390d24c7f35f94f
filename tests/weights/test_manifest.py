import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcdzoo.errors import BcdzooError
from bcdzoo.registry import REGISTRY
from bcdzoo.weights import manifest
from bcdzoo.weights.manifest import Manifest, load_manifest

ROOT = Path(__file__).parents[2]
ENTRY = {"model": "bcdnet-a", "tag": "mine", "source": "manual", "format": "bcdnet", "preprocess": "imagenet"}


def toml(kind: str, **values: Any) -> str:
    # JSON's scalars and arrays are TOML's as well
    return f"[[{kind}]]\n" + "".join(f"{json.dumps(key)} = {json.dumps(value)}\n" for key, value in values.items())


def load(tmp_path: Path, text: str) -> Manifest:
    file = tmp_path / "mine.toml"
    file.write_text(text, encoding="utf-8")
    return load_manifest(file)


@pytest.fixture(autouse=True)
def _no_manifest_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BCDZOO_MANIFEST", raising=False)


def test_the_shipped_manifest_speaks_of_every_row_of_the_tables_and_of_our_own_networks() -> None:
    published = tomllib.loads((ROOT / "bcdzoo/report/published.toml").read_text())
    peers = {row["model"] for row in published["beyond"]} - REGISTRY.keys()  # rows of a peer's networks, not built here
    rows = {row["model"] for table in published.values() for row in table} - peers
    shipped = load_manifest()
    public = {checkpoint.model for checkpoint in shipped.checkpoints}
    missing = {entry.model for entry in shipped.missing}
    ours = {name for name, spec in REGISTRY.items() if spec.recipe.startswith("tiny")}
    assert public | missing == rows | ours
    assert not public & missing


def test_every_shipped_entry_says_where_it_was_read() -> None:
    shipped = load_manifest()
    assert all(checkpoint.evidence for checkpoint in shipped.checkpoints)
    assert all(checkpoint.top_source for checkpoint in shipped.checkpoints if checkpoint.top1 is not None)


def test_the_header_describes_exactly_the_keys_there_are() -> None:
    header = (ROOT / "weights.toml").read_text().partition("\n[[")[0]
    unknown = [key for key in manifest.Checkpoint.__dataclass_fields__ if key not in header]
    assert not unknown
    assert all(f" {name}" in header for name in manifest.SOURCES)


def test_the_shipped_builds_are_arguments_of_their_networks() -> None:
    import torch

    from bcdzoo.registry import create_model

    with torch.device("meta"):
        for checkpoint in load_manifest().checkpoints:
            if checkpoint.model in REGISTRY and checkpoint.build:
                create_model(checkpoint.model, **checkpoint.build)


def test_importing_and_reading_it_imports_neither_torch_nor_requests() -> None:
    code = (
        "import sys; from bcdzoo.weights import manifest, fetch; manifest.load_manifest(); "
        "assert not {'torch', 'requests', 'huggingface_hub', 'gdown'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_network_without_tag_gets_its_first_entry() -> None:
    shipped = load_manifest()
    assert shipped.find("bcdnet-a").tag == "step2"
    assert shipped.find("bcdnet-a", "step1").build == {"step": 1}
    assert shipped.find("mobilenet-v2").top1 == 71.878
    assert [checkpoint.tag for checkpoint in shipped.of("rbnn-r18")] == ["paper", "b512-e120", "b256-e120"]


@pytest.mark.parametrize(
    ("model", "tag", "told"),
    [
        ("bcdnet-a", "step3", "step2, step1"),
        ("bcdnet-b", None, "no public checkpoint: train it, or pass --weights FILE"),
        ("bcdnet-aa", None, "did you mean bcdnet-a or bcdnet-b"),
        ("my.module:network", None, "--manifest"),
    ],
)
def test_what_cannot_be_found_is_explained(model: str, tag: str | None, told: str) -> None:
    with pytest.raises(BcdzooError) as error:
        load_manifest().find(model, tag)
    assert told in str(error.value)


def test_a_users_file_adds_overrides_and_fills_gaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_variable = tmp_path / "variable.toml"
    by_variable.write_text(
        toml("checkpoint", **ENTRY | {"note": "from the variable"})
        + toml("checkpoint", **ENTRY | {"model": "bcdnet-b"})
        + toml("checkpoint", **ENTRY | {"tag": "step2", "top1": 71})
    )
    monkeypatch.setenv("BCDZOO_MANIFEST", str(by_variable))
    merged = load(
        tmp_path,
        toml("checkpoint", **ENTRY | {"note": "from the option", "default": True})
        + toml("checkpoint", **ENTRY | {"model": "pkg.module:net", "preprocess": "resize=256,crop=224"}),
    )
    assert [checkpoint.tag for checkpoint in merged.of("bcdnet-a")] == ["mine", "step2", "step1"]
    assert merged.find("bcdnet-a").note == "from the option"
    assert merged.find("bcdnet-a", "step2").top1 == 71
    assert merged.find("bcdnet-b").tag == "mine"
    assert "bcdnet-b" not in {entry.model for entry in merged.missing}
    assert merged.find("pkg.module:net").preprocess == "resize=256,crop=224"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"filname": "x"}, "unknown key 'filname'; did you mean 'filename' or 'files'?"),
        ({"source": "ftp"}, "source: 'ftp'"),
        ({"source": "hf", "filename": "x"}, "hf_repo: missing"),
        ({"source": "url", "url": "https://a.b/c"}, "filename: missing"),
        ({"source": "url", "url": "file:///etc/passwd", "filename": "x"}, "url: must begin with http"),
        ({"source": "gdrive"}, "gdrive_id: missing"),
        ({"source": "gdrive", "gdrive_id": "https://drive.google.com/file/d/1"}, "gdrive_id: must be the id only"),
        ({"format": "tensorflow"}, "format: 'tensorflow'"),
        ({"preprocess": "imagnet"}, "preprocess: 'imagnet'"),
        ({"sha256": "ab"}, "sha256: must be 64 hexadecimal digits"),
        ({"sha1": "g" * 40}, "sha1: must be 40"),
        ({"sha384": "0" * 64}, "sha384: must be 96"),
        ({"sha256_prefix": "abc"}, "sha256_prefix: must be 8 to 64"),
        ({"top1": 100.1}, "top1: must be a percentage"),
        ({"top5": "80"}, "top5: must be a number"),
        ({"size": True}, "size: must be a number of bytes"),
        ({"size": 0}, "size: must be positive"),
        ({"build": "step=1"}, "build: must be a table"),
        ({"model": ""}, "model: missing"),
        ({"tag": "a\nb"}, "tag: must be one line"),
        ({"filename": "../x"}, "filename: must be a relative path"),
        ({"filename": "/x"}, "filename: must be a relative path"),
        ({"filename": "a\\b"}, "filename: must be a relative path"),
        ({"member": "a/../../x"}, "member: must be a relative path"),
        ({"filename": "a\0"}, "filename: must be one line"),
    ],
)
def test_a_wrong_entry_is_named_with_its_file_and_key(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    with pytest.raises(BcdzooError) as error:
        load(tmp_path, toml("checkpoint", **ENTRY) + toml("checkpoint", **ENTRY | {"tag": "other"} | change))
    assert told in str(error.value)
    assert f"{tmp_path / 'mine.toml'}: checkpoint 2" in str(error.value)
    assert "\n" not in str(error.value)


def test_two_entries_of_one_tag_in_a_file_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(BcdzooError, match=r"checkpoint 2 .*: tag: a second entry"):
        load(tmp_path, toml("checkpoint", **ENTRY) * 2)


@pytest.mark.parametrize(
    "text", ["[checkpoint]\nmodel = 'a'", "checkpoint = [1]", "chekpoint = []", "model = ", "\x00"]
)
def test_what_is_no_manifest_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(BcdzooError, match=r"mine\.toml"):
        load(tmp_path, text)


def test_the_example_in_the_documentation_is_a_manifest(tmp_path: Path) -> None:
    example = (ROOT / "docs/weights.md").read_text().split("```toml\n")[1].partition("```")[0]
    merged = load(tmp_path, example)
    assert merged.find("bcdnet-b", "ours") and merged.find("my_package.nets:small").source == "manual"


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 100_000,
        "a" + ".a" * 50_000 + " = 1",
        "[a" + ".a" * 50_000 + "]",
        "a = {a" + ".a" * 50_000 + " = 1}",
        ("a" + ".a" * 190 + " = 1\n") * 600,
        "[[checkpoint]]\nbuild = " + "{a = " * 5_000,
        "[[checkpoint]]\n" + "size = " + "9" * 10_000,
        "k" * 200_000 + " = 1",
        "#" * 300_000,
        "[[checkpoint]]\n'\x1b[2K' = 1" * 9,
        toml("checkpoint", **ENTRY) + "url = 1979-05-27",
        toml("checkpoint", **ENTRY) + "build = { step = 1979-05-27 }",
        toml("checkpoint", **ENTRY) + "build = { step = [1, 2] }",
        toml("checkpoint", **ENTRY) + "size = true",
        toml("checkpoint", **ENTRY) + "top1 = nan",
        toml("checkpoint", **ENTRY, note="x" * 10_000),
        *(
            toml("checkpoint", **ENTRY | {"source": "onedrive", "url": url})
            for url in ("http://[::1", "http://host:port/x", "http://host:99999/x", "ftp://host/x", "http:///x")
        ),
    ],
)
def test_whatever_a_manifest_holds_it_is_one_short_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(BcdzooError) as error:
        load(tmp_path, text)
    assert str(error.value).isprintable() and len(str(error.value)) < 800


def test_a_manifest_that_never_ends_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.toml")
    for name in ("zero.toml", "pipe.toml"):
        with pytest.raises(BcdzooError, match="not a regular file"):
            load_manifest(tmp_path / name)


def test_the_last_default_comes_first_and_a_later_entry_keeps_its_place(tmp_path: Path) -> None:
    entries = [("a", False), ("b", True), ("c", True)]
    text = "".join(
        toml("checkpoint", **ENTRY | {"model": "own", "tag": tag}) + ("default = true\n" if default else "")
        for tag, default in entries
    )
    assert [checkpoint.tag for checkpoint in load(tmp_path, text).of("own")] == ["c", "b", "a"]


def test_a_manifest_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BcdzooError, match=r"none\.toml: No such file"):
        load_manifest(tmp_path / "none.toml")
    monkeypatch.setenv("BCDZOO_MANIFEST", str(tmp_path))
    with pytest.raises(BcdzooError, match="is a folder"):
        load_manifest()


def test_hashes_in_capitals_are_read(tmp_path: Path) -> None:
    assert load(tmp_path, toml("checkpoint", **ENTRY, sha1="AB" * 20)).find("bcdnet-a", "mine").sha1 == "ab" * 20


_VALUES = st.one_of(st.text(), st.integers(-5, 10**12), st.floats(), st.booleans(), st.lists(st.text(), max_size=2))
_KEYS = st.sampled_from([*manifest.Checkpoint.__dataclass_fields__, "default", "nonsense"])


@settings(max_examples=200, deadline=None)
@given(changes=st.dictionaries(_KEYS, _VALUES, min_size=1, max_size=4))
def test_any_entry_is_either_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any]
) -> None:
    file = tmp_path_factory.getbasetemp() / "mine.toml"
    file.write_text(toml("checkpoint", **ENTRY | changes).replace("Infinity", "inf").replace("NaN", "nan"))
    try:
        read = load_manifest(file)
    except BcdzooError as error:
        assert str(error).startswith(str(file)) and len(str(error).splitlines()) == 1
    else:
        given = ENTRY | changes
        assert [given["tag"], given["source"]] in [[entry.tag, entry.source] for entry in read.of(given["model"])]
