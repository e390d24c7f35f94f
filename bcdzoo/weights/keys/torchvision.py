"""torchvision, after whose ResNet-18 and MobileNet-V2 this zoo's are named."""

from bcdzoo.weights.keys.family import Family, Layout

FAMILY = Family((Layout(),))
