import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "scripts" / "gpu.sh"


@pytest.mark.slow
def test_the_check_of_a_gpu_runs_to_its_end_and_says_what_it_ran_on(tmp_path: Path) -> None:
    done = subprocess.run(
        [SCRIPT, tmp_path / "gpu"], env=os.environ | {"PYTHON": sys.executable}, capture_output=True, text=True
    )
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert [name for name, part in found.items() if not part.get("ok", True)] == []
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "gpu.md").read_text()
    assert table in done.stdout and "bcdnet-tiny" in table
    if not torch.cuda.is_available():
        assert table.startswith("no CUDA device: a rehearsal")
