"""The server of docs/serving.md, as it stands there; skipped without its libraries, which are in the extra ``test``."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

import bcdzoo
from bcdzoo.data.imagenet import open_dataset
from tests.docs.blocks import ROOT, blocks

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

(CODE,) = (block.text for block in blocks(ROOT / "docs" / "serving.md") if block.language == "py")


def encoded(image: Image.Image) -> bytes:
    content = BytesIO()
    image.save(content, "png")
    return content.getvalue()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    names: dict[str, Any] = {"__name__": "serve"}
    exec(compile(CODE, "serve.py", "exec"), names)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(names["app"]("bcdnet-tiny"), log_level="error"))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        server.should_exit = True
        thread.join(30)


def test_the_server_is_short() -> None:
    assert len(CODE.splitlines()) < 60


def test_many_requests_at_once_get_the_answer_to_their_picture(address: str) -> None:
    demo = open_dataset("demo", 10)
    pictures = [demo.image(number) for number in range(40)]
    expected = [
        dict(zip(each.names, each.probabilities, strict=True)) for each in bcdzoo.predict("bcdnet-tiny", pictures)
    ]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda picture: requests.post(address, encoded(picture), timeout=60), pictures))
    assert {answer.status_code for answer in answers} == {200}
    for answer, probabilities in zip(answers, expected, strict=True):
        assert list(answer.json()) == list(probabilities)
        assert list(answer.json().values()) == pytest.approx(list(probabilities.values()), abs=1e-6)


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (b"", 400, "not an image"),
        (b"<html>no picture</html>", 400, "not an image"),
        (encoded(Image.effect_noise((99, 99), 50))[:-500], 400, "cannot read image"),
        (encoded(Image.new("1", (9000, 9000))), 400, "9000×9000 pixels"),
        (bytes(30_000_000), 413, "30000000 bytes"),
    ],
)
def test_a_bad_or_huge_picture_is_refused_and_the_server_goes_on(
    address: str, content: bytes, code: int, said: str
) -> None:
    refused = requests.post(address, content, timeout=60)
    assert refused.status_code == code and said in refused.json()["error"]
    in_parts = requests.post(address, iter([content[:1000], content[1000:]]), timeout=60)
    assert in_parts.status_code == code
    assert requests.post(address, encoded(Image.new("L", (28, 28))), timeout=60).status_code == 200
    assert requests.get(address, timeout=60).status_code == 405


@pytest.mark.slow
def test_the_server_runs_by_itself(tmp_path: Path) -> None:
    (tmp_path / "serve.py").write_text(CODE.replace("port=8000", "port=0"))
    words = [sys.executable, "serve.py", "bcdnet-tiny"]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "running on" in line)
        answer = requests.post(line.split()[4], encoded(Image.new("L", (28, 28))), timeout=60)
        assert sum(json.loads(answer.text).values()) < 1
        process.terminate()
