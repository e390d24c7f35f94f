"""How torch's threads wait for each other in a process of ours: set before torch is loaded, unless the user has."""

import os
import subprocess
import sys

import pytest

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
AT_TORCH = f"""
import os, sys
from bcdzoo.cli import main

class Asked:
    def find_spec(self, name, *_):
        if name == "torch":
            print(*(os.environ.get(name, "-") for name in {NAMES}))
            os._exit(0)

sys.meta_path.insert(0, Asked())
main(["count-ops", "bcdnet-tiny"])
"""


def environment(**chosen: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in NAMES} | chosen


def run(*words: str, **chosen: str) -> subprocess.CompletedProcess[str]:
    command, variables = [sys.executable, *words], environment(**chosen)
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=200, check=True)


def test_the_runtime_that_torch_loads_lets_threads_sleep() -> None:
    done = run("-m", "bcdzoo", "count-ops", "bcdnet-tiny", OMP_DISPLAY_ENV="true")
    if "OPENMP DISPLAY ENVIRONMENT" not in done.stderr:
        pytest.skip("torch's runtime of threads does not tell its settings here")
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, "PASSIVE - -"),
        ({"OMP_WAIT_POLICY": "active"}, "active - -"),
        ({"GOMP_SPINCOUNT": "7"}, "- 7 -"),
        ({"KMP_BLOCKTIME": "1"}, "- - 1"),
    ],
)
def test_it_is_set_before_torch_is_loaded_and_not_where_the_user_has_set_how_threads_wait(
    chosen: dict[str, str], expected: str
) -> None:
    assert run("-c", AT_TORCH, **chosen).stdout.split() == expected.split()


def test_where_torch_is_loaded_already_the_environment_stays_as_it_is() -> None:
    code = "import os, sys, types; sys.modules['torch'] = types.ModuleType('torch'); before = dict(os.environ)\n"
    code += "from bcdzoo.cli import main\ntry:\n    main(['list'])\nexcept SystemExit:\n    assert os.environ == before"
    run("-c", code)


def test_in_a_process_of_somebody_elses_nothing_is_set() -> None:
    done = run("-c", "import bcdzoo, os; bcdzoo.list_models(); print(os.environ.get('OMP_WAIT_POLICY'))")
    assert done.stdout == "None\n"
