"""Settings of the whole suite: it runs in two processes, and with ``-n 0`` in this one, for ``-s`` and ``--pdb``."""

import os
from collections.abc import Iterator
from pathlib import Path

# Before torch is imported: sums are the same on every machine, and the suite's two processes share two cores.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from hypothesis import settings

_REAL_DATA = os.environ.get("BCDZOO_TEST_DATA")  # own_home takes such variables away

settings.register_profile("bcdzoo", deadline=None, derandomize=True)  # a busy machine is no failure; runs repeat
settings.load_profile("bcdzoo")


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Sums in two parts, for what was compared with other people's figures in that order."""
    import torch

    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache and a results store of the test's own, and none of the user's settings."""
    for name in list(os.environ):
        if name.startswith("BCDZOO_"):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("BCDZOO_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of trained networks and photographs that others have published; they are not in this repository."""
    if not _REAL_DATA:
        pytest.skip("BCDZOO_TEST_DATA names no folder of trained networks and photographs")
    folder = Path(_REAL_DATA)
    assert folder.is_dir(), f"BCDZOO_TEST_DATA is {folder}, which is no folder"
    return folder
