import io
import random
import subprocess
import tarfile
from pathlib import Path

import pytest

from bcdzoo.data.classes import wnids
from bcdzoo.data.imagenet import open_dataset
from bcdzoo.errors import BcdzooError
from tests.data.layouts import assert_the_same, picture_folder, tar_file
from tests.data.test_layouts import complaint


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return picture_folder(tmp_path / "pictures", [str(number) for number in range(12)])


@pytest.mark.parametrize("form", ["gnu", "pax", "ustar", "v7"])
def test_gnu_tars_archives_of_every_format_are_read(root: Path, tmp_path: Path, form: str) -> None:
    subprocess.run(["tar", f"--format={form}", "-C", root, "-cf", tmp_path / "all.tar", "."], check=True)
    tar = open_dataset(tmp_path / "all.tar", 12)
    assert_the_same({"folder": open_dataset(root, 12), "tar": tar})


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_long_names_in_an_archive_are_the_ids(tmp_path: Path, form: str) -> None:
    deep = picture_folder(tmp_path / "a", ["0", "1"]) / "1" / ("long " * 40) / "ünï"
    deep.mkdir(parents=True)
    (tmp_path / "a" / "1" / "00000.png").rename(deep / "x.png")
    subprocess.run(["tar", f"--format={form}", "-C", tmp_path / "a", "-cf", tmp_path / "all.tar", "."], check=True)
    tar = open_dataset(tmp_path / "all.tar", 2)
    assert_the_same({"folder": open_dataset(tmp_path / "a", 2), "tar": tar})
    assert any(sample.id == f"1/{'long ' * 40}/ünï/x.png" for sample in tar.samples)


@pytest.mark.parametrize(("mode", "program"), [("w:gz", "gunzip"), ("w:bz2", "bunzip2"), ("w:xz", "unxz")])
def test_a_compressed_archive_is_refused_with_what_to_do(root: Path, tmp_path: Path, mode: str, program: str) -> None:
    with tarfile.open(tmp_path / "all.tar", mode) as archive:  # type: ignore[call-overload]
        archive.add(root)
    assert f"all.tar is compressed, so images cannot be read in place: `{program}` it first" in complaint(
        tmp_path / "all.tar"
    )
    (tmp_path / "all.tar").rename(tmp_path / "all.tgz")
    assert f"`{program}` it first" in complaint(tmp_path / "all.tgz")


def test_an_archive_that_is_cut_off_anywhere_is_named(root: Path, tmp_path: Path) -> None:
    whole = tar_file(root, tmp_path / "all.tar").read_bytes()
    end = len(whole.rstrip(b"\0"))
    for length in [*range(1700, end, 517), *range(2048, end, 4096), end]:
        (tmp_path / "all.tar").write_bytes(whole[:length])
        message = complaint(tmp_path / "all.tar", 12)
        assert "all.tar is cut off or damaged after " in message, length
        assert message.endswith("; fetch it again")
    for length in (0, 1, 511, 700):  # within the first member
        (tmp_path / "all.tar").write_bytes(whole[:length])
        assert "all.tar is not a tar archive: " in complaint(tmp_path / "all.tar", 12)


def test_a_damaged_archive_is_one_line_or_read(root: Path, tmp_path: Path) -> None:
    whole = tar_file(root, tmp_path / "all.tar").read_bytes()
    rng, refused = random.Random(0), 0
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            damaged[512 * rng.randrange(0, 40) + rng.randrange(512)] = rng.randrange(256)
        (tmp_path / "all.tar").write_bytes(damaged)
        try:
            open_dataset(tmp_path / "all.tar", 12)
        except BcdzooError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 20


def archive_of(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, target
    return info


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_are_refused_and_not_followed(tmp_path: Path, kind: bytes) -> None:
    path = archive_of(tmp_path / "a.tar", member("0/a.png", size=3), member("1/b.png", kind, target="/etc/passwd"))
    assert "1/b.png is a link or a sparse file; pack the files themselves" in complaint(path, 2)


def test_a_members_path_is_a_name_and_never_a_place(tmp_path: Path) -> None:
    names = ["/0/a.png", "./1/b.png", "0/../../../c.png"]
    path = archive_of(tmp_path / "a.tar", *(member(name, size=3) for name in names))
    images = open_dataset(path, 2)
    assert [(s.id, s.label) for s in images.samples] == [("0/../../../c.png", 0), ("0/a.png", 0), ("1/b.png", 1)]
    assert [s.read() for s in images.samples] == [bytes(3)] * 3
    assert [file.name for file in tmp_path.iterdir()] == ["a.tar"]


def test_hidden_files_and_folders_of_an_archive_are_passed_over(tmp_path: Path) -> None:
    names = ["./._0", "0/._a.png", "0/a.png", "0/notes.txt", "1/b.png", ".cache/c.png"]
    path = archive_of(tmp_path / "a.tar", *(member(name) for name in names))
    assert [sample.id for sample in open_dataset(path, 2).samples] == ["0/a.png", "1/b.png"]


def test_an_archive_of_archives_or_of_nothing_has_no_images(tmp_path: Path) -> None:
    assert "train.tar: n01440764.tar is not a tar archive" in complaint(
        archive_of(tmp_path / "train.tar", member("n01440764.tar"))
    )
    assert "no images in" in complaint(archive_of(tmp_path / "empty.tar"))


def test_an_empty_class_folder_counts_in_an_archive_as_in_a_folder(root: Path, tmp_path: Path) -> None:
    (root / "12").mkdir()
    for name in "ab":
        (root / name).mkdir()
    assert "has 15 class folders, but the network has 12 outputs" in complaint(root, 12)
    assert "has 15 class folders, but the network has 12 outputs" in complaint(tar_file(root, tmp_path / "all.tar"), 12)


def nested(path: Path, *inner: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in inner:
            archive.addfile(member(name, size=len(content)), io.BytesIO(content))
    return path


def class_archive(tmp_path: Path, name: str, *images: str) -> bytes:
    return archive_of(tmp_path / name, *(member(image, size=5) for image in images)).read_bytes()


def test_archives_of_one_class_each_are_read_in_a_folder_and_in_an_archive(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    content = {
        f"{wnid}.tar": class_archive(tmp_path / "inner", f"{wnid}.tar", f"{wnid}_1.JPEG", f"{wnid}_2.JPEG", "._x.JPEG")
        for wnid in wnids()[:3]
    }
    outer = nested(tmp_path / "ILSVRC2012_img_train.tar", *content.items())
    below = nested(tmp_path / "below.tar", *((f"train/{name}", inner) for name, inner in content.items()))
    expected = [(f"{wnid}/{wnid}_{n}.JPEG", label) for label, wnid in enumerate(wnids()[:3]) for n in (1, 2)]
    for path in (tmp_path / "inner", outer, below):
        images = open_dataset(path)
        assert [(sample.id, sample.label) for sample in images.samples] == expected
        assert (images.layout, images.labels_from) == ("tar", "wnids")
        assert all(sample.read() == bytes(5) for sample in images.samples)


def test_an_archive_in_an_archive_is_read_no_further_than_it_goes(tmp_path: Path) -> None:
    inner = class_archive(tmp_path, "x", "a.JPEG")
    for cut in (600, 1024, 1100):
        path = nested(tmp_path / "a.tar", (f"{wnids()[0]}.tar", inner[:cut]), (f"{wnids()[1]}.tar", inner))
        assert f"a.tar: {wnids()[0]}.tar is " in complaint(path)


def test_archives_in_an_archive_that_are_no_classes_are_named(tmp_path: Path) -> None:
    inner = class_archive(tmp_path, "x", "a.JPEG")
    path = nested(tmp_path / "a.tar", ("part-0.tar", inner), ("part-1.tar", inner))
    assert "holds archives (part-0.tar, part-1.tar), but only those of one class each" in complaint(path)


def test_what_an_archive_holds_beside_images_is_counted(tmp_path: Path) -> None:
    names = ["0/a.png", "0/b", "1/c.heic", "1/d.png", "more.tar", "README.md"]
    images = open_dataset(archive_of(tmp_path / "a.tar", *(member(name) for name in names)), 2)
    assert images.notes == (
        "2 files skipped that do not have an image extension (0/b, 1/c.heic)",
        "1 archives skipped: unpack each into a folder of its class to read its images (more.tar)",
    )


def header(name: str, size: bytes, kind: bytes = b"0") -> bytes:
    """A member's 512 bytes, with whatever stands where its size should."""
    head = (
        name.encode().ljust(100, b"\0") + b"0000644\0" + b"0" * 7 + b"\0" + b"0" * 7 + b"\0" + size + b"0" * 11 + b"\0"
    )
    rest = kind + bytes(100) + b"ustar\00000"
    total = sum(head) + 8 * 32 + sum(rest)
    return (head + b"%06o\0 " % total + rest).ljust(512, b"\0")


@pytest.mark.parametrize("kind", [b"0", b"x", b"g", b"L", b"K", b"S", b"5"])
@pytest.mark.parametrize(
    "size", [b"77777777777\0", b"\x80" + b"\0" * 3 + b"\x7f" + b"\xff" * 7, b"\xff" * 11 + b"\0", b"99999999999\0"]
)
def test_an_absurd_size_is_one_line_at_once(tmp_path: Path, kind: bytes, size: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(
        header("0/a.png", b"00000000000\0") + header("0/b.png", size, kind) + bytes(20_480)
    )
    with (tmp_path / "a.tar").open("ab") as file:
        file.truncate(1 << 33)  # no room on the disk: what reads as far as the header says takes 8 GiB of zeros
    message = complaint(tmp_path / "a.tar", 1)
    assert len(message) < 300


def test_long_names_and_chains_of_headers_are_one_short_line(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "long.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member("0/" + "x" * 1_000_000 + ".png"))
    assert "header of" in complaint(tmp_path / "long.tar", 1)
    name = b"0/a.png".ljust(512, b"\0")
    (tmp_path / "chain.tar").write_bytes((header("x", b"00000000007\0", b"L") + name) * 5000 + bytes(1024))
    assert "chain.tar is not a tar archive: maximum recursion depth" in complaint(tmp_path / "chain.tar", 1)


def test_very_many_odd_members_take_little_time(tmp_path: Path) -> None:
    kinds = [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.REGTYPE]
    odd = [header(f"{number}\n\x1b[2K", b"00000000000\0", kinds[number % 3]) for number in range(20_000)]
    (tmp_path / "a.tar").write_bytes(b"".join([*odd, header("0/a.png", b"00000000000\0"), bytes(1024)]))
    (note,) = open_dataset(tmp_path / "a.tar", 1).notes
    assert note.startswith("6666 files skipped that do not have an image extension (")
    assert "\x1b" not in note
