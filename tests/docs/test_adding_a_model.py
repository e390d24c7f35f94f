"""Adding a network is local: what the page edits is all that changes, and then the network is there."""

import os
import subprocess
import sys
from pathlib import Path

from tests.docs.blocks import ROOT, blocks
from tests.docs.test_commands import write

# In a copy with the edits: a file with the authors' keys is fetched, recognised, and read by its name and by its path.
USE = """
import torch, bcdzoo
from bcdzoo.cli import main
from bcdzoo.weights.load import resolve

ours = bcdzoo.create_model("sketchnet-10").state_dict()
def theirs(key):
    if key.startswith("stages."):
        _, stage, place, *rest = key.split(".")
        rest = ".".join(rest).replace("shortcut.conv", "project.0").replace("shortcut.bn", "project.1")
        rest = rest.replace("bn.", "norm.").replace("activation", "prelu")
        return f"units.{int(stage) * 2 + int(place)}.{rest}"
    return key.replace("stem.conv", "first.0").replace("stem.bn", "first.1").replace("fc.", "last.")
torch.save({"state_dict": {"module." + theirs(key): tensor for key, tensor in ours.items()}}, "theirs.pth")
try:
    main(["fetch", "sketchnet-10", "--from", "theirs.pth"])
except SystemExit as end:
    assert not end.code
for weights in None, "authors", "theirs.pth":
    found = resolve("sketchnet-10", weights)
    assert found.preprocess == "imagenet"
    assert all(torch.equal(tensor, ours[key]) for key, tensor in found.model.state_dict().items())
"""


def test_a_network_with_keys_of_its_own_touches_six_files(tmp_path: Path) -> None:
    edits = [block for block in blocks(ROOT / "docs" / "adding-a-model.md") if block.title]
    for block in edits:
        write(block, tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
    names = [path.relative_to(tmp_path) for path in files]
    new = [name for name in names if not (ROOT / name).exists()]
    changed = [
        name for name in names if name not in new and (tmp_path / name).read_bytes() != (ROOT / name).read_bytes()
    ]
    assert sorted(map(str, new + changed)) == sorted(block.title for block in edits)
    assert (len(new), len(new + changed)) == (2, 6)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    used = subprocess.run(
        [sys.executable, "-S", "-c", USE],
        cwd=tmp_path,
        env=environment | {"BCDZOO_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
    )
    assert used.returncode == 0, used.stderr
    assert "theirs.pth" not in used.stderr  # nothing had to be assumed
