import hashlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import datasets
import pyarrow as pa
import pytest
from pyarrow import parquet

from bcdzoo.data.imagenet import ImageSet, open_dataset
from bcdzoo.errors import BcdzooError
from tests.data.layouts import assert_the_same, parquet_folder, picture_folder
from tests.data.test_layouts import complaint
from tests.weights.servers import Page, hub_error, hub_page, serving

NAMES = ["bee", "cat", "dog"]


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageSet:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return open_dataset(picture_folder(tmp_path / "pictures", NAMES), 3)


def test_a_repository_of_parquet_files_gives_the_same_images(images: ImageSet, tmp_path: Path) -> None:
    for split in ("train", "validation"):
        parquet_folder(images, tmp_path / "repository" / "data", NAMES, split)
    found = open_dataset(f"hf:{tmp_path}/repository", 3)
    assert (found.layout, found.name, found.class_names) == ("hf", f"hf:{tmp_path}/repository", tuple(NAMES))
    assert found.labels_from == "column label of split validation"
    assert open_dataset(f"hf:{tmp_path}/repository:train", 3).labels_from == "column label of split train"
    assert_the_same({"folder": images, "hf": found, "pickled": pickle.loads(pickle.dumps(found))})


def test_a_repository_of_class_folders_gives_the_same_images(images: ImageSet, tmp_path: Path) -> None:
    found = open_dataset(f"hf:{tmp_path}/pictures", 3)
    assert_the_same({"folder": images, "hf": found})


def test_the_samples_of_a_hub_dataset_pickle_small(images: ImageSet, tmp_path: Path) -> None:
    many = open_dataset(picture_folder(tmp_path / "many", NAMES, each=200), 3)
    parquet_folder(many, tmp_path / "repository", NAMES)
    assert len(pickle.dumps(open_dataset(f"hf:{tmp_path}/repository", 3))) < 150 * 600


def test_names_that_lead_nowhere_are_one_line(images: ImageSet, tmp_path: Path) -> None:
    parquet_folder(images, tmp_path / "repository", NAMES, "extra")
    (tmp_path / "empty").mkdir()
    assert "hf: names no dataset: write hf:OWNER/NAME or hf:OWNER/NAME:SPLIT" in complaint("hf:", 3)
    assert "cannot get the dataset " in complaint(f"hf:{tmp_path}/absent", 3)
    assert "cannot get the dataset " in complaint(f"hf:{tmp_path}/empty", 3)
    assert f"repository has the splits train: select one as hf:{tmp_path}/repository:SPLIT" in complaint(
        f"hf:{tmp_path}/repository:test", 3
    )


def test_damaged_or_foreign_files_of_a_repository_are_one_line(images: ImageSet, tmp_path: Path) -> None:
    folder = parquet_folder(images, tmp_path / "repository", NAMES)
    file = folder / "validation-00000-of-00002.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    assert "cannot get the dataset " in complaint(f"hf:{folder}", 3)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "test.csv").write_text("a,b\n1,2\n")
    assert "must have a column of images" in complaint(f"hf:{tmp_path}/text", 3)


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, extra in (
        ("datasets", "hf:a/b", "hf"),
        ("webdataset", str(tmp_path / "{0..1}.tar"), "webdataset"),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(BcdzooError, match=rf"pip install 'bcdzoo\[{extra}\]'$"):
            open_dataset(name)


def test_a_dataset_is_fetched_from_a_hub_and_only_the_split_that_is_wanted(images: ImageSet, tmp_path: Path) -> None:
    for split in ("train", "validation"):
        parquet_folder(images, tmp_path / "repository" / "data", NAMES, split)
    files = {
        path.relative_to(tmp_path / "repository").as_posix(): path.read_bytes()
        for path in sorted((tmp_path / "repository").rglob("*.parquet"))
    }
    commit = hashlib.sha1(b"commit").hexdigest()
    about = {"id": "o/n", "sha": commit, "siblings": [{"rfilename": name} for name in files]}
    top = [{"type": "directory", "oid": commit, "size": 0, "path": "data"}]
    listed = [{"type": "file", "oid": commit, "size": len(body), "path": name} for name, body in files.items()]
    answers = {
        "/api/datasets/o/n": about,
        f"/api/datasets/o/n/revision/{commit}": about,
        f"/api/datasets/o/n/tree/{commit}": top,
        f"/api/datasets/o/n/tree/{commit}/data": listed,
    }

    def answer(host: str, path: str) -> Page | None:
        path = path.partition("?")[0]
        if path in answers:
            return Page(json.dumps(answers[path]).encode(), headers={"Content-Type": "application/json"})
        name = path.removeprefix(f"/datasets/o/n/resolve/{commit}/")
        if name not in files:
            return hub_error(404, "EntryNotFound")
        page = hub_page(files[name])
        page.headers["X-Repo-Commit"] = commit
        return page

    with serving() as server:
        server.answer = answer
        code = "from bcdzoo.data.imagenet import open_dataset; print(open_dataset('hf:o/n', 3).fingerprint)"
        environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home")}
        found = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
        fetched = [path for method, path, _ in server.asked if method == "GET" and path.endswith(".parquet")]
    assert found == images.fingerprint + "\n"
    assert len(fetched) == 2
    assert all("validation" in path for path in fetched)


@pytest.mark.parametrize("path", ["/etc/passwd", "pictures/../../outside.png", "relative.png"])
def test_a_dataset_names_no_file_outside_of_it(images: ImageSet, tmp_path: Path, path: str) -> None:
    (tmp_path / "repository").mkdir()
    schema = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")}).arrow_schema
    rows = pa.table({"image": [{"bytes": None, "path": path}], "label": [0]}, schema)
    parquet.write_table(rows, tmp_path / "repository" / "test.parquet")
    assert f"names a file that is not its own, {path}" in complaint(f"hf:{tmp_path}/repository", 3)
