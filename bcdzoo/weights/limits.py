"""How much a download may bring."""

LARGEST = 8 << 30  # bytes of a file whose size nobody tells
UNPACKED = 100  # times its size is the most that anything compressed may hold: weights are noise
