"""SA-BNN-50 computes what Bi-Real-50 does, whose authors' code is public: SA-BNN's own part is the gradient."""

import re

import torch

from bcdzoo import create_model
from bcdzoo.weights.convert import convert_state
from tests.weights import authors

NAMES = [
    (r"(conv|bn)1\.", r"stem.\1."),
    (r"layers\.0\.down_conv1x1\.", None),  # built, but not used
    (r"layers\.(\d+)\.conv1\.", r"blocks.\1.reduce."),
    (r"layers\.(\d+)\.bn1\.", r"blocks.\1.reduce_bn."),
    (r"layers\.(\d+)\.(conv|bn)2\.", r"blocks.\1.spatial.\2."),
    (r"layers\.(\d+)\.conv3\.", r"blocks.\1.expand."),
    (r"layers\.(\d+)\.bn3\.", r"blocks.\1.expand_bn."),
    (r"layers\.(\d+)\.down_conv1x1\.", r"blocks.\1.narrow_shortcut."),
    (r"layers\.(\d+)\.downsample\.1\.", r"blocks.\1.shortcut.conv."),
    (r"layers\.(\d+)\.downsample\.2\.", r"blocks.\1.shortcut.bn."),
]


def test_sabnn_50_gives_the_logits_of_bi_real_50s_authors() -> None:
    record = authors.record("birealnet-50")
    model = create_model("sabnn-50")
    state = {key: value for key, value in model.state_dict().items() if ".tau_" in key}
    for key, tensor in authors.state(record["keys"]).items():
        pattern, name = next((pair for pair in NAMES if re.match(pair[0], key)), ("", ""))
        if name is not None:
            state[re.sub("^" + pattern, name, key)] = tensor
    model.load_state_dict(convert_state(state, model, "Bi-Real-50"))
    images = authors.images()[:, :, : record["pixels"], : record["pixels"]]
    with torch.inference_mode():
        logits = model.double().eval()(images.double())
    expected = torch.tensor(record["logits"], dtype=torch.float64)
    torch.testing.assert_close(logits[:, : expected.shape[1]], expected, atol=1e-3, rtol=1e-5)
    assert logits.argmax(1).tolist() == record["top1"]
