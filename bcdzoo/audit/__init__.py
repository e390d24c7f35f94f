"""Is it really binary? What a network's layers multiply, seen while it runs on real images."""
