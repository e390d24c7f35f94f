"""ONNX graphs, which are only fetched."""

from bcdzoo.weights.keys.family import Family

FAMILY = Family()
