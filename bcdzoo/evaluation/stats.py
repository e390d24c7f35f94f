"""How far an accuracy measured on some images can be trusted."""

from math import sqrt

Z_95 = 1.959963984540054  # the standard normal distribution's 97.5 % point


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion.

    Args:
        hits: Right answers, 0 to ``n``.
        n: All answers, at least 1.

    Returns:
        Lower and upper end in percent.
    """
    p, z2 = hits / n, Z_95 * Z_95
    center = p + z2 / (2 * n)
    half = Z_95 * sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # No hit at all, or no miss, puts that end on 0 or 100 exactly; rounding would leave it just beside.
    low = 0.0 if hits == 0 else (center - half) / (1 + z2 / n)
    high = 1.0 if hits == n else (center + half) / (1 + z2 / n)
    return 100 * low, 100 * high
