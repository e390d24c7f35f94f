"""Following a network's tensor operations: what is multiplied, and how it came about."""
