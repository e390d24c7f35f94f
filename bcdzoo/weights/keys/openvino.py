"""OpenVINO graphs and their weights, which are only fetched."""

from bcdzoo.weights.keys.family import Family

FAMILY = Family()
