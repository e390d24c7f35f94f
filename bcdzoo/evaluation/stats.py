"""Statistics of accuracies: intervals and tests."""

from bisect import bisect_left
from itertools import takewhile
from math import exp, fsum, lgamma, log, sqrt

Z_95 = 1.959963984540054  # the standard normal distribution's 97.5 % point
SIGNIFICANT = 0.05


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion.

    Args:
        hits: Number of correct answers, 0 to ``n``.
        n: Number of answers, at least 1.

    Returns:
        Lower and upper end in percent.
    """
    p, z2 = hits / n, Z_95 * Z_95
    center = p + z2 / (2 * n)
    half = Z_95 * sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # Without hits or without misses an end is exactly 0 or 100, despite rounding.
    low = 0.0 if hits == 0 else (center - half) / (1 + z2 / n)
    high = 1.0 if hits == n else (center + half) / (1 + z2 / n)
    return 100 * low, 100 * high


def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's exact two-sided test of whether two networks differ in accuracy on the same images.

    Only images that exactly one of them gets right are informative; if the networks were equally good,
    each would get half of these right on average (McNemar, Psychometrika 12, 1947; the exact binomial form).

    Args:
        only_first: Number of images that only the first gets right.
        only_second: Number of images that only the second gets right.

    Returns:
        The p-value.
    """
    n, fewer = only_first + only_second, min(only_first, only_second)
    if n == 2 * fewer:
        return 1.0
    # log of C(n, k) / 2^n, summed from the largest term until the rest is negligible: exact integers with 15,000
    # digits would be slow
    logs = (lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) - n * log(2) for k in range(fewer, -1, -1))
    largest = next(logs)
    return min(1.0, 2 * fsum(map(exp, [largest, *takewhile(lambda term: term > largest - 50, logs)])))


def smallest_significant(disagreements: int, n: int) -> int | None:
    """The smallest difference that McNemar's exact test finds significant (5 %), in images.

    Args:
        disagreements: Number of images that exactly one of two networks gets right.
        n: Number of images.

    Returns:
        The smallest significant difference with that many disagreements. Fewer than six are never significant:
        then six, all of one network; None if there are fewer images.
    """
    # p increases with the smaller of the two counts; find how many values are significant
    numbers = range(disagreements // 2 + 1)
    found = bisect_left(numbers, SIGNIFICANT, key=lambda fewer: mcnemar(disagreements - fewer, fewer))
    if found:
        return disagreements - 2 * (found - 1)
    return next((all_one for all_one in range(disagreements + 1, n + 1) if mcnemar(all_one, 0) < SIGNIFICANT), None)


def paired_interval(only_first: int, only_second: int, n: int) -> tuple[float, float]:
    """95 % interval of the difference of two networks' accuracies on the same images, first minus second.

    Wald's interval with one added to each count (Bonett and Price, British Journal of Mathematical and Statistical
    Psychology 65, 2012), which keeps its coverage for few images.

    Args:
        only_first: Number of images that only the first gets right.
        only_second: Number of images that only the second gets right.
        n: Number of images.

    Returns:
        Lower and upper end in percentage points.
    """
    first, second = (only_first + 1) / (n + 2), (only_second + 1) / (n + 2)
    half = Z_95 * sqrt((first + second - (first - second) ** 2) / (n + 2))
    return 100 * (first - second - half), 100 * (first - second + half)
