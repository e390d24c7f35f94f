"""The engine as WebAssembly in node and in a browser, and its page; BCDZOO_WEB_BUILD may name a build of it."""

import base64
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest
from PIL import Image

import bcdzoo
from bcdzoo.data.preprocess import Geometry
from bcdzoo.packed import native
from bcdzoo.packed.checkpoint import export
from bcdzoo.plan.file import encode
from bcdzoo.plan.operations import Array, Operation
from bcdzoo.plan.plan import Plan, shapes_of
from tests.engine.random_plans import random_plan
from tests.report.test_page import CHROMIUM, FLAGS

HERE = Path(__file__).parent
ENGINE = HERE.parents[1] / "engine"
BUILD = os.environ.get("BCDZOO_WEB_BUILD")
RANDOM_PLANS = 100
TRAINED = {"bcdnet-tiny": None, "adabin-resnet20": "adabin-resnet20-cifar10.th"}
pytestmark = pytest.mark.slow
browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")


def run(*command: str | Path, timeout: int = 550) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build's web folder."""
    if BUILD:
        return Path(BUILD) / "web"
    if not shutil.which("emcmake") or not shutil.which("cmake") or not shutil.which("node"):
        pytest.skip("there is no emscripten, cmake or node")
    folder = tmp_path_factory.mktemp("web")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NODE_PATH", os.environ.get("NODE_PATH", "/usr/share/nodejs"))  # where Debian has acorn
        run("emcmake", "cmake", "-S", ENGINE, "-B", folder)
        run("cmake", "--build", folder, "--parallel", "2", "--target", "bcdzoo_web")
    return folder / "web"


@pytest.fixture
def site(built: Path, tmp_path: Path) -> Path:
    """What a file server would have, with bcdnet-tiny for a plan."""
    folder = tmp_path / "site"
    folder.mkdir()
    for name in "index.html", "bcdzoo.js":
        shutil.copy(built / name, folder)
    export("bcdnet-tiny", folder / "net.bcz")
    return folder


class Handler(SimpleHTTPRequestHandler):
    """A file server that keeps what pages send to it, and says nothing."""

    seen: Queue[Any] = Queue()

    def do_POST(self) -> None:
        """Keeps what a page saw."""
        self.seen.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """Where the site is served."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def browse(page: str, profile: Path) -> Any:
    """What a page sends by `note`, in its own time."""
    flags = [flag for flag in FLAGS if "virtual-time" not in flag]
    command = [str(CHROMIUM), *flags, f"--user-data-dir={profile}", page]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return Handler.seen.get(timeout=200)
    finally:
        process.terminate()
        process.wait()


NOTE = """
const note = (seen) => fetch("ADDRESS/seen", { method: "POST", mode: "no-cors", body: JSON.stringify(seen) });
"""
CHECK_PAGE = f"""<!doctype html><meta charset="utf-8"><body>
<script src="bcdzoo.js"></script><script src="web_check.js"></script><script>{NOTE}
const read = async (name) => new Uint8Array(await (await fetch(name)).arrayBuffer());
checkAll(bcdzoo, read).then(note, (error) => note(String(error)));
</script>"""


def flat(plan: Plan) -> Plan | None:
    """The same plan, whose result is logits, as the C interface takes it; none, if that are levels of a map."""
    last, rank = len(plan.operations), len(shapes_of(plan)[-1])
    if rank in (1, 4):
        return plan if rank == 1 else None
    return replace(plan, operations=(*plan.operations, Operation("reshape", {"x": last}, {"shape": (0,)})))


def native_logits(content: Array, image: Array) -> Array:
    """What portable kernels give on this machine."""
    module = native.kernels()
    assert module is not None
    network = module.Network(content, hashed=True, map=False)
    out = np.empty((1, *network.output[:1]), np.float32)
    (network.run_pixels if image.dtype == np.uint8 else network.run)(image[None], out, 1, "portable")
    return out


def write_cases(folder: Path, address: str, trained: list[str], real_data: Path | None) -> None:
    cases: list[dict[str, Any]] = []
    rng, seeds = np.random.default_rng(0), count()
    while len(cases) < RANDOM_PLANS:
        one = random_plan(next(seeds))
        if plan := flat(one.plan):
            name = f"random-{len(cases)}"
            cases.append({"name": name, "pixels": False})
            write_case(folder, name, encode(plan), np.ascontiguousarray(one.images[0], np.float32))
    for name in trained:
        weights = TRAINED[name]
        export(name, folder / "trained.bcz", None if weights is None or real_data is None else real_data / weights)
        content = (folder / "trained.bcz").read_bytes()
        side = bcdzoo.load_packed(folder / "trained.bcz").plan.input_shape[1]
        pixels = rng.integers(0, 256, (side, side, 3), np.uint8)
        write_case(folder, f"{name}-pixels", content, pixels)
        write_case(folder, name, content, rng.normal(size=(3, side, side)).astype(np.float32))
        cases += [{"name": f"{name}-pixels", "pixels": True}, {"name": name, "pixels": False}]
    (folder / "cases.json").write_text(json.dumps(cases))
    shutil.copy(HERE / "web_check.js", folder)
    (folder / "check.html").write_text(CHECK_PAGE.replace("ADDRESS", address))


def write_case(folder: Path, name: str, content: bytes, image: Array) -> None:
    (folder / f"{name}.bcz").write_bytes(content)
    (folder / f"{name}.in").write_bytes(image.tobytes())
    (folder / f"{name}.out").write_bytes(native_logits(np.frombuffer(content, np.uint8), image).tobytes())


@browser
@pytest.mark.parametrize("name", TRAINED)
def test_networks_and_random_plans_give_the_bits_of_native_portable_kernels_in_node_and_in_a_browser(
    name: str, site: Path, address: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    real_data = request.getfixturevalue("real_data") if TRAINED[name] else None
    write_cases(site, address, [name], real_data)
    in_node = json.loads(run("node", site / "web_check.js", site))
    in_browser = browse(f"{address}/check.html", tmp_path / "profile")
    for said in in_node, in_browser:
        assert said["cases"] == RANDOM_PLANS + 2 and said["sets"] == ["simd128"]
        assert said["wrong"] == []


RESIZE = """
const { readFileSync, writeFileSync } = require("fs");
require(process.argv[2] + "/bcdzoo.js")().then((engine) => {
  const network = engine.load(new Uint8Array(readFileSync(process.argv[2] + "/net.bcz")));
  for (const { file, width, height, preprocess } of JSON.parse(readFileSync(process.argv[2] + "/sizes.json"))) {
    network.preprocess = preprocess;
    const image = { width, height, data: new Uint8Array(readFileSync(file)) };
    writeFileSync(file + ".out", network.prepared(image));
  }
});
"""


def test_pictures_are_resized_and_cropped_to_the_pixels_of_pillow(site: Path) -> None:
    rng = np.random.default_rng(1)
    sizes: list[dict[str, Any]] = []
    expected = []
    for number, (width, height) in enumerate([(28, 28), (280, 280), (97, 190), (301, 96), (5, 9), (33, 28), (1, 1)]):
        for interpolation in "bilinear", "bicubic":
            for resize, crop in (28, 28), (32, 27), (28, 1):
                image = rng.integers(0, 256, (height, width, 4), np.uint8)
                file = site / f"{number}-{interpolation}-{resize}-{crop}"
                file.write_bytes(image.tobytes())
                spec = f"resize={resize},crop={crop},interpolation={interpolation},mean=0.5,std=0.5,channels=rgb"
                sizes.append({"file": str(file), "width": width, "height": height, "preprocess": spec})
                rgb = Image.fromarray(np.ascontiguousarray(image[..., :3]))
                expected.append(Geometry(resize, crop, interpolation).pixels(rgb).permute(1, 2, 0).numpy())
    (site / "sizes.json").write_text(json.dumps(sizes))
    (site / "resize.js").write_text(RESIZE)
    run("node", site / "resize.js", site)
    for size, pixels in zip(sizes, expected, strict=True):
        got = np.fromfile(f"{size['file']}.out", np.uint8).reshape(pixels.shape)
        assert np.array_equal(got, pixels), size


READER = f"""
<script>{NOTE}
addEventListener("load", async () => {{
  const seen = [], shown = (selector) => Array.from(document.querySelectorAll(selector), (one) => one.textContent);
  await last;
  const look = () => seen.push({{
    status: document.getElementById("status").textContent, bad: document.getElementById("status").className,
    names: document.querySelector("table").hidden ? [] : shown("tbody th"), odds: shown("tbody td:last-child"),
    time: document.getElementById("time").textContent, wide: document.documentElement.scrollWidth - innerWidth,
  }});
  look();
  for (const [name, bytes] of FILES) {{
    const data = new DataTransfer();
    data.items.add(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], name));
    dispatchEvent(new DragEvent("drop", {{ dataTransfer: data, cancelable: true }}));
    await last;
    look();
  }}
  const canvas = document.getElementById("picture"), box = canvas.getBoundingClientRect();
  canvas.setPointerCapture = () => {{}};
  for (const [kind, x, y] of [["down", 0.3, 0.3], ["move", 0.7, 0.3], ["move", 0.7, 0.8], ["up", 0.7, 0.8]]) {{
    const place = {{ clientX: box.left + x * box.width, clientY: box.top + y * box.height }};
    canvas.dispatchEvent(new PointerEvent("pointer" + kind, place));
  }}
  for (let i = 0; i < 100 && document.querySelector("table").hidden; ++i)
    await new Promise((done) => setTimeout(done, 50));
  look();
  note(seen);
}});
</script>"""


def seen_on_page(site: Path, address: str, files: list[tuple[str, bytes]], profile: Path, as_file: bool = False) -> Any:
    """What the page shows at first, after each dropped file, and after a drawing."""
    dropped = json.dumps([(name, base64.b64encode(content).decode()) for name, content in files])
    reader = READER.replace("ADDRESS", address).replace("FILES", dropped)
    (site / "read.html").write_text((site / "index.html").read_text().replace("</body>", reader + "</body>"))
    return browse((site / "read.html").as_uri() if as_file else f"{address}/read.html", profile)


@browser
def test_a_dropped_picture_gets_the_names_and_probabilities_of_predict_and_a_drawing_some(
    site: Path, address: str, tmp_path: Path
) -> None:
    image = np.zeros((280, 300, 3), np.uint8)
    image[60:250, 90:190], image[60:110, 40:240], image[40:75, 120:160] = 200, 200, 0
    Image.fromarray(image).save(tmp_path / "shirt.png")
    first, dropped, drawn = seen_on_page(
        site, address, [("shirt.png", (tmp_path / "shirt.png").read_bytes())], tmp_path / "profile"
    )
    (truth,) = bcdzoo.predict("bcdnet-tiny", [tmp_path / "shirt.png"], top=5)
    assert first["status"] == "bcdnet-tiny is ready." and first["names"] == []
    assert dropped["names"] == list(truth.names)
    assert dropped["odds"] == [f"{100 * odd:.1f} %" for odd in truth.probabilities]
    assert re.match(r"\d+(\.\d+)? ms an image", dropped["time"])
    assert len(drawn["names"]) == 5 and drawn["names"] != dropped["names"] and drawn["wide"] <= 0


@browser
def test_a_bad_file_gets_one_line_and_the_network_stays(site: Path, address: str, tmp_path: Path) -> None:
    plan = (site / "net.bcz").read_bytes()
    damaged = plan[:50_000] + bytes([plan[50_000] ^ 1]) + plan[50_001:]
    bad = [
        ("a.bcz", plan[:1000]), ("b.bcz", damaged), ("c.png", b"\x89PNG\r\n"), ("d", b""), ("<b>e", b"\x89BCZ"),
    ]  # fmt: skip
    seen = seen_on_page(site, address, bad, tmp_path / "profile")
    for (name, _), each in zip(bad, seen[1:], strict=False):
        assert each["bad"] == "bad" and "\n" not in each["status"] and name in each["status"], each
    assert len(seen[-1]["names"]) == 5 and seen[-1]["status"] == "bcdnet-tiny is ready."


@browser
def test_the_page_works_as_a_file_and_says_that_a_plan_is_to_be_chosen(
    site: Path, address: str, tmp_path: Path
) -> None:
    files = [("mine.bcz", (site / "net.bcz").read_bytes())]
    seen = seen_on_page(site, address, files, tmp_path / "profile", as_file=True)
    assert seen[0]["status"].startswith("Choose a plan file") and seen[0]["bad"] == ""
    assert seen[1]["status"] == "bcdnet-tiny is ready." and len(seen[2]["names"]) == 5


@browser
def test_a_server_without_a_plan_is_said_in_one_line(site: Path, address: str, tmp_path: Path) -> None:
    (site / "net.bcz").unlink()
    seen = seen_on_page(site, address, [], tmp_path / "profile")
    assert seen[0]["bad"] == "bad" and "there is no net.bcz beside this page (404)" in seen[0]["status"]
