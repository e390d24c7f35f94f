"""timm, whose ResNet-18 has torchvision's names."""

from bcdzoo.weights.keys.family import Family, Layout, Rule, by_stage

# Index of the first block of each stage in this zoo, which numbers the blocks consecutively.
_V1_FIRST = (0, 1, 3, 5, 11)
_V2_FIRST = (1, 2, 4, 7, 11, 14, 17)

_MOBILENET_V1 = Layout(
    [
        (r"conv_stem\.", "stem.conv."),
        (r"bn1\.", "stem.bn."),
        *(
            (rf"blocks\.([0-4])\.(\d)\.{theirs}\.", by_stage(_V1_FIRST, f"blocks.{{n}}.{ours}."))
            for theirs, ours in [
                ("conv_dw", "depthwise.conv"),
                ("bn1", "depthwise.bn"),
                ("conv_pw", "pointwise.conv"),
                ("bn2", "pointwise.bn"),
            ]
        ),
        (r"classifier\.", "fc."),
    ],
    build={"activation": "relu6"},
    preprocess="inception-bicubic",
)


def _v2_blocks(where: str, parts: dict[str, str]) -> list[Rule]:
    return [
        (rf"blocks\.{where}\.{theirs}\.", by_stage(_V2_FIRST, f"features.{{n}}.conv.{ours}."))
        for theirs, ours in parts.items()
    ]


_MOBILENET_V2 = Layout(
    [
        (r"conv_stem\.", "features.0.0."),
        (r"bn1\.", "features.0.1."),
        *_v2_blocks(r"(0)\.(0)", {"conv_dw": "0.0", "bn1": "0.1", "conv_pw": "1", "bn2": "2"}),
        *_v2_blocks(
            r"([0-6])\.(\d)",
            {"conv_pw": "0.0", "bn1": "0.1", "conv_dw": "1.0", "bn2": "1.1", "conv_pwl": "2", "bn3": "3"},
        ),
        (r"conv_head\.", "features.18.0."),
        (r"bn2\.", "features.18.1."),
        (r"classifier\.", "classifier.1."),
    ],
    preprocess="imagenet-bicubic",
)

FAMILY = Family((_MOBILENET_V1, _MOBILENET_V2, Layout()))
