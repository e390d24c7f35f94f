"""Check whether a network is really binary: what its layers multiply, observed while it runs on real images."""
