"""Training in stages, from recipes."""
