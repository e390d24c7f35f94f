"""osmr/pytorchcv."""

from bcdzoo.weights.keys.family import Family, Layout, by_stage, shifted

# Index of block 0 of each stage in this zoo, which numbers the blocks consecutively; pytorchcv counts from 1.
_FIRST = (0, -1, 0, 2, 4, 10)

_MOBILENET = Layout(
    [
        (r"features\.init_block\.", "stem."),
        (r"features\.stage([1-5])\.unit(\d)\.dw_conv\.", by_stage(_FIRST, "blocks.{n}.depthwise.")),
        (r"features\.stage([1-5])\.unit(\d)\.pw_conv\.", by_stage(_FIRST, "blocks.{n}.pointwise.")),
        (r"output\.", "fc."),
    ],
    as_usual=("activation",),
    preprocess="imagenet",
)

_RESNET = Layout(
    [
        (r"features\.init_block\.conv\.(conv|bn)\.", r"\g<1>1."),
        (r"features\.stage(\d)\.unit(\d)\.body\.conv(\d)\.(conv|bn)\.", shifted(2, -1, r"layer\1.{n}.\4\3.")),
        (r"features\.stage(\d)\.unit1\.identity_conv\.conv\.", r"layer\1.0.downsample.0."),
        (r"features\.stage(\d)\.unit1\.identity_conv\.bn\.", r"layer\1.0.downsample.1."),
        (r"output\.", "fc."),
    ],
    preprocess="imagenet",
)

FAMILY = Family((_MOBILENET, _RESNET))
