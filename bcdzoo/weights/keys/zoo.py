"""This zoo's own files."""

from bcdzoo.weights.keys.family import Family, Layout

FAMILY = Family((Layout(),))
