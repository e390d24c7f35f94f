import torch

from bcdzoo.layers.shift import long_range, short_range


def by_hand(x: torch.Tensor, dy: int, dx: int) -> torch.Tensor:
    """The sampling written out index by index: output (i, j) of each quarter comes from one neighbour, circularly."""
    _, c, h, w = x.shape
    out = torch.empty_like(x)
    for channel in range(c):
        quarter = 4 * channel // c
        step_i, step_j = [(dy, 0), (-dy, 0), (0, dx), (0, -dx)][quarter]
        for i in range(h):
            for j in range(w):
                out[:, channel, i, j] = x[:, channel, (i - step_i) % h, (j - step_j) % w]
    return out


def test_short_range_samples_the_four_neighbours() -> None:
    x = torch.arange(2 * 8 * 5 * 6, dtype=torch.float32).reshape(2, 8, 5, 6)
    assert torch.equal(short_range(x), by_hand(x, 1, 1))


def test_long_range_samples_half_a_map_away_rounded_down() -> None:
    for size in (7, 8, 14):
        x = torch.arange(8 * size * size, dtype=torch.float32).reshape(1, 8, size, size)
        assert torch.equal(long_range(x), by_hand(x, size // 2, size // 2))
    x = torch.zeros(1, 4, 7, 7)
    x[0, 0, 0, 0] = 1
    assert long_range(x)[0, 0].nonzero().tolist() == [[3, 0]]
