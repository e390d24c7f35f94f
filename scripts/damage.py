"""Flips random bits in everything that is stored and read again, and counts what is noticed.

    python -m scripts.damage [FLIPS] [KILLS]

For each kind of file: flips that were named, flips that changed nothing that is read, and, which must be none, those
that were read as something else without a word ("silent") and runs that could not be finished ("stuck"). Then KILLS
times SIGKILL at random moments of an evaluation and of a training run, which must end with the bytes of one that was
left alone.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, suppress
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.compare import compare
from bcdzoo.evaluation.loop import evaluate_all
from bcdzoo.evaluation.options import EvalOptions
from bcdzoo.evaluation.result import EvalResult
from bcdzoo.evaluation.store import read_result
from bcdzoo.train import checkpoint
from bcdzoo.train.stages import train
from tests.own_networks import Interrupted

ROOT = Path(__file__).parents[1]
DICE = random.Random(0)
QUICK = {"batch_size": 16, "iterations": 8, "warmup": 0, "checkpoint_every": 2, "log_every": 2, "compile": False}


def flipped(content: bytes) -> bytes:
    """The same with one random bit turned."""
    damaged = bytearray(content)
    damaged[DICE.randrange(len(damaged))] ^= 1 << DICE.randrange(8)
    return bytes(damaged)


def campaign(path: Path, flips: int, read: Callable[[], Any], same: Callable[[Any], bool]) -> Counter[str]:
    """Flip a file again and again, and say what reading it gives.

    Args:
        path: The file; it is whole again afterwards.
        flips: How many.
        read: What is to be read; a BcdzooError names the damage.
        same: Whether it is what was written.
    """
    whole, found = path.read_bytes(), Counter[str]()
    for _ in range(flips):
        path.write_bytes(flipped(whole))
        said = StringIO()
        try:
            with redirect_stderr(said):
                content = read()
        except BcdzooError:
            found["named"] += 1
        else:
            word = " (said to be unchecked)" if "unchecked" in said.getvalue() else ""
            found[("same" if same(content) else "silent") + word] += 1
    path.write_bytes(whole)
    return found


def images(folder: Path, count: int) -> Path:
    """Small images of noise of ten classes, as a CSV file."""
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number:05}.png")
    (folder / "list.csv").write_text("\n".join(f"{number:05}.png,{number % 10}" for number in range(count)))
    return folder / "list.csv"


def run(data: Path, left: int) -> EvalResult:
    """Evaluate; with ``left`` batches until Ctrl-C comes."""
    torch.manual_seed(0)
    options = EvalOptions(preprocess="resize=16,crop=16", batch_size=256, store=True, workers=0)
    (result,) = evaluate_all([Interrupted(left)], data, options)
    if isinstance(result, BcdzooError):
        raise result
    return result


def unfinished(home: Path, data: Path, flips: int) -> Counter[str]:
    """Flip a file of an unfinished run, and let it go on: what is damaged must be named, and the end the same."""
    whole, found = run(data, 0), Counter[str]()
    for _ in range(flips):
        with suppress(KeyboardInterrupt):
            run(data, 5)  # two of three chunks, behind the two batches that the network is tried out with
        files = sorted(path for path in home.glob("results/unfinished/*/*") if path.name != "lock")
        victim = DICE.choice(files)
        victim.write_bytes(flipped(victim.read_bytes()))
        said = StringIO()
        try:
            with redirect_stderr(said):
                result = run(data, 0)
        except BcdzooError as error:
            found[f"stuck: {error}"] += 1
            continue
        same = result.predictions_sha256 == whole.predictions_sha256
        named = "damaged" in said.getvalue() or "unchecked" in said.getvalue()
        found[("named" if named else "same") if same else "silent"] += 1
    return found


def kills(words: list[str], environment: dict[str, str], count: int, done: Callable[[], bytes]) -> str:
    """SIGKILL a command at random moments until it has been hit so often, then let it end."""
    begun = time.monotonic()
    subprocess.run(words, env=environment, cwd=ROOT, check=True, capture_output=True)
    whole, took = done(), time.monotonic() - begun
    hit = wrong = 0
    while hit < count:
        process = subprocess.Popen(words, env=environment, cwd=ROOT, stdout=-3, stderr=-3, start_new_session=True)
        try:
            process.wait(DICE.uniform(0.3, 1) * took)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            hit += 1
            continue
        wrong += process.returncode != 0 or done() != whole
    last = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True)
    wrong += last.returncode != 0 or done() != whole
    return f"{hit} kills, {wrong} ends that were wrong"


def stripes(folder: Path) -> Path:
    """Class folders of two classes, to train on."""
    draw = np.random.default_rng(0)
    for name, count in (("train", 20), ("val", 10)):
        for label in range(2):
            place = folder / name / str(label)
            place.mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 100, (28, 28, 3), dtype=np.uint8) + 100 * label
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")
    return folder


def main(flips: int, times: int) -> None:
    """Print a line for each kind of file, and for each command that is killed."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        home = folder / "home"
        os.environ["BCDZOO_HOME"] = str(home)
        with redirect_stderr(StringIO()):
            data = images(folder / "images", 600)
            run(data, 0)
        record = next((home / "results").glob("*.json"))
        whole = _figures(read_result(record))
        found = campaign(record, flips, lambda: _figures(read_result(record)), lambda read: read == whole)
        print("result         ", dict(found), flush=True)
        predictions = record.with_suffix(".parquet")
        other = folder / "other.parquet"
        other.write_bytes(predictions.read_bytes())  # a run is not compared with itself
        one, two = str(predictions), str(other)
        frame = compare(one, two).images
        found = campaign(predictions, flips, lambda: compare(one, two).images, lambda read: frame.equals(read))
        print("predictions    ", dict(found), flush=True)
        print("unfinished run ", dict(unfinished(home, data, flips)), flush=True)
        trained = stripes(folder / "stripes")
        state = stopped(trained, folder / "stopped")
        whole_state = checkpoint.load(state)
        found = campaign(state, flips, lambda: checkpoint.load(state), lambda read: _equal(read, whole_state))
        print("training       ", dict(found), flush=True)
        if not times:
            return
        environment = os.environ | {"PAUSE": "0.05"}
        words = ["eval", "tests.own_networks:Steady", "--data", str(data), "--preprocess", "resize=16,crop=16"]
        words = [sys.executable, "-m", "bcdzoo", *words, "--batch-size", "16"]
        print("eval           ", kills(words, environment, times, lambda: _newest(home)), flush=True)
        settings = [word for key, value in QUICK.items() for word in ("--set", f"{key}={json.dumps(value)}")]
        out = folder / "trained"
        words = ["train", "bcdnet-tiny", "--data", str(trained), "--out", str(out), *settings, "--workers", "1"]
        words = [sys.executable, "-m", "bcdzoo", *words]
        print("train          ", kills(words, environment, times, lambda: _ended(out)), flush=True)


def _newest(home: Path) -> bytes:
    return max((home / "results").glob("*Steady*.parquet"), key=os.path.getmtime).read_bytes()


def _ended(out: Path) -> bytes:
    """Both files of weights; the folder is removed, so that the next command begins anew."""
    names = ("step1.safetensors", "step2.safetensors")
    content = b"".join((out / name).read_bytes() for name in names)
    for path in out.iterdir():
        path.unlink()
    return content


def _figures(result: dict[str, Any]) -> dict[str, Any]:
    return {key: result[key] for key in ("model", "n", "top1", "top5", "hits", "ci95", "build", "predictions_file")}


def stopped(data: Path, out: Path) -> Path:
    """The checkpoint of a run that could not go on: at such a rate the weights are soon not finite."""
    with suppress(BcdzooError), redirect_stderr(StringIO()):
        train("bcdnet-tiny", data, out, settings=QUICK | {"lr": 1e30, "warmup": 4, "checkpoint_every": 1}, workers=0)
    return out / "step1.checkpoint.pt"


def _equal(one: object, other: object) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    return one == other


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    main(*[*numbers, *(200, 60)[len(numbers) :]])
