import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_version_is_the_same_everywhere_and_in_the_changelog() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    latest = re.search(r"^## (\S+)", (ROOT / "docs" / "changelog.md").read_text(), re.MULTILINE)
    assert latest is not None
    assert latest[1] == version
