import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from timm.data.transforms_factory import create_transform
from torchvision import transforms
from torchvision.models import MobileNet_V2_Weights, ResNet18_Weights

from bcdzoo.data.preprocess import CHANNELS, INTERPOLATIONS, PRESETS, Preprocess, parse
from bcdzoo.errors import BcdzooError

SIZES = [(500, 375), (375, 500), (333, 334), (97, 181), (256, 256), (1000, 257)]  # width, height


def picture(width: int, height: int) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(
        np.stack([(x * 7 + y * 3) % 256, (x * x // 5 + y) % 256, (x * y) % 251], -1).astype(np.uint8)
    )


@pytest.mark.parametrize("size", SIZES)
def test_the_imagenet_presets_equal_torchvisions_own_transforms(size: tuple[int, int]) -> None:
    image = picture(*size)
    assert torch.equal(PRESETS["imagenet"](image), ResNet18_Weights.IMAGENET1K_V1.transforms()(image))
    assert torch.equal(PRESETS["imagenet-232"](image), MobileNet_V2_Weights.IMAGENET1K_V2.transforms()(image))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("preset", "crop_pct"), [("imagenet-bicubic", 0.875), ("imagenet-235-bicubic", 0.95), ("inception-bicubic", 0.875)]
)
def test_the_bicubic_presets_equal_timms_transforms(preset: str, crop_pct: float, size: tuple[int, int]) -> None:
    image, ours = picture(*size), PRESETS[preset]
    timms = create_transform(224, interpolation="bicubic", crop_pct=crop_pct, mean=ours.mean, std=ours.std)
    assert torch.equal(ours(image), timms(image))


def test_openvino_gives_the_pixels_of_the_crop_from_0_to_255_in_order_bgr() -> None:
    image = picture(500, 375)
    crop = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])(image)
    expected = torch.from_numpy(np.asarray(crop)[:, :, ::-1].transpose(2, 0, 1).copy()).float()
    assert torch.allclose(PRESETS["openvino-bgr"](image), expected, rtol=1e-6)


# Printed by larq_zoo.training.data.preprocess_input (larq-zoo 2.4.0, TensorFlow 2.15.1) for picture(width, height):
# values of the three channels at (row, column), and the mean and mean magnitude of all of them.
LARQ = {
    (97, 181): (
        {
            (0, 0): [1.238548, -1.020308, -0.200959],
            (0, 223): [-1.955879, 0.334262, 0.744226],
            (100, 57): [1.346949, 2.767282, 1.002009],
            (150, 201): [0.017907, 1.158664, -0.134815],
            (223, 0): [1.122061, 0.433927, 1.18399],
            (223, 223): [-2.669376, 1.788497, -0.698446],
        },
        (0.22955610, 1.01225327),
    ),
    (500, 375): (
        {
            (0, 0): [0.656306, 1.868347, -0.82841],
            (0, 223): [0.35474, 0.502669, 0.183382],
            (100, 57): [0.650286, 0.852948, -0.766062],
            (150, 201): [-0.998779, 0.994878, 0.524257],
            (223, 0): [-0.099213, -1.376976, 0.796645],
            (223, 223): [-0.40078, 1.739139, 0.496865],
        },
        (0.21150793, 0.99518232),
    ),
}


@pytest.mark.parametrize("size", LARQ)
def test_larq_equals_what_larq_zoo_on_tensorflow_computed(size: tuple[int, int]) -> None:
    values, (mean, magnitude) = LARQ[size]
    ours = PRESETS["larq"](picture(*size))
    for (row, column), expected in values.items():
        assert ours[:, row, column].tolist() == pytest.approx(expected, abs=1e-5)
    assert ours.double().mean().item() == pytest.approx(mean, abs=1e-7)
    assert ours.double().abs().mean().item() == pytest.approx(magnitude, abs=1e-7)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_gives_float32_of_its_crop(preset: str) -> None:
    tensor = PRESETS[preset](picture(300, 260))
    assert (tensor.shape, tensor.dtype) == ((3, 224, 224), torch.float32)


numbers = st.floats(1e-3, 1e3)
triples = st.tuples(numbers, numbers, numbers) | numbers.map(lambda x: (x, x, x))


@given(
    st.integers(1, 600),
    st.integers(0, 100),
    st.sampled_from(INTERPOLATIONS),
    triples,
    triples,
    st.sampled_from(CHANNELS),
)
def test_the_spec_of_a_preprocessing_reads_back_as_the_same(
    crop: int,
    margin: int,
    interpolation: str,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    channels: str,
) -> None:
    ours = Preprocess(crop + margin, crop, interpolation, mean, std, channels)
    assert parse(ours.spec()) == parse(str(ours)) == ours


def test_a_preset_is_printed_by_its_name() -> None:
    assert {name: str(preset) for name, preset in PRESETS.items()} == {name: name for name in PRESETS}
    assert str(parse("interpolation=bicubic,mean=1/2,std=0.5")) == "inception-bicubic"


def test_one_value_or_three_and_fractions_are_understood() -> None:
    ours = parse(" resize=288, crop=256 ,interpolation=bicubic,mean=127/255,std=0.1:1/5:3e-1,channels=bgr")
    assert ours == Preprocess(288, 256, "bicubic", (127 / 255,) * 3, (0.1, 0.2, 0.3), "bgr")


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("imagnet", "no preprocessing preset named 'imagnet': did you mean imagenet or "),
        ("", "no preprocessing preset named ''"),
        ("size=224", "'size=224' must be one of resize, crop,"),
        ("crop=224,crop=200", "'crop=200' must be one of"),
        ("crop=224,", "'' must be one of"),
        ("crop=big", "'big' is not a value of crop"),
        ("mean=0.1:0.2", "'0.1:0.2' is not a value of mean"),
        ("std=1/0", "'1/0' is not a value of std"),
        ("mean=nan", "'nan' is not a value of mean"),
        ("mean=1e999", "'1e999' is not a value of mean"),
        ("std=0", "std must be above 0"),
        ("crop=300", "crop=300 must be above 0 and at most resize=256"),
        ("crop=0", "crop=0 must be above 0"),
        ("interpolation=cubic", "interpolation=cubic is none of bilinear, bicubic, tf-bicubic"),
        ("channels=gbr", "channels=gbr is none of rgb, bgr"),
    ],
)
def test_a_bad_spec_is_one_line_that_says_what_is_wrong(spec: str, complaint: str) -> None:
    with pytest.raises(BcdzooError) as raised:
        parse(spec)
    assert complaint in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "spec",
    [
        "resize=20000",
        "crop=1e9",
        "resize=99999999999999999999",
        "resize=" + "9" * 900,
        "resize=２５６",
        "resize=2_5_6",
        "std=1e9999999999",
        "mean=nan",
        "mean=inf",
        "std=1/0",
        "std=1/" + "9" * 500,
        "mean=" + "1" * 900,
        "mean=1e7",
        "std=0",
        "std=-1",
        "std=1e-300",
        "mean=0.1:nan:0.1",
        "mean=0x10",
        "mean=" + ":".join(["0.1"] * 200),
        "a" * 100_000,
        "=" * 100_000,
        "resize=256," * 50_000,
    ],
    ids=lambda spec: spec[:20],
)
def test_a_spec_that_asks_for_the_machine_is_refused_before_a_number_is_made(spec: str) -> None:
    with pytest.raises(BcdzooError) as raised:
        parse(spec)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1.0, 1e-9])
def test_a_standard_deviation_that_is_none_is_refused_from_python_too(value: float) -> None:
    with pytest.raises(BcdzooError, match=r"std must be|must be numbers"):
        Preprocess(std=(1.0, 1.0, value))
