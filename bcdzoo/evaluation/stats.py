"""How far an accuracy measured on some images can be trusted."""

from bisect import bisect_left
from itertools import takewhile
from math import exp, fsum, lgamma, log, sqrt

Z_95 = 1.959963984540054  # the standard normal distribution's 97.5 % point
SIGNIFICANT = 0.05


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


def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's exact two-sided test: whether two networks differ in how many of the same images they get right.

    Only images that one of them gets right and the other does not say anything; if the networks were equally good,
    such an image would be either's with probability 1/2 (McNemar, Psychometrika 12, 1947; the exact binomial form).

    Args:
        only_first: Images that only the first gets right.
        only_second: Images that only the second gets right.

    Returns:
        The p-value.
    """
    n, fewer = only_first + only_second, min(only_first, only_second)
    if n == 2 * fewer:
        return 1.0
    # log of C(n, k) / 2^n, summed from the largest term to where nothing is added any more: exact integers of 15,000
    # digits would be slow
    logs = (lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) - n * log(2) for k in range(fewer, -1, -1))
    largest = next(logs)
    return min(1.0, 2 * fsum(map(exp, [largest, *takewhile(lambda term: term > largest - 50, logs)])))


def smallest_significant(disagreements: int, n: int) -> int | None:
    """The smallest difference that McNemar's exact test finds significant (5 %), in images.

    Args:
        disagreements: Images that one of two networks gets right and the other does not.
        n: All images.

    Returns:
        The least difference that so many disagreements can be divided with. Fewer than six tell nothing however they
        fall: then of six, all one network's; None if there are not so many images.
    """
    # p rises with the images of the network that has fewer of them: how many of these numbers are below the level
    numbers = range(disagreements // 2 + 1)
    found = bisect_left(numbers, SIGNIFICANT, key=lambda fewer: mcnemar(disagreements - fewer, fewer))
    if found:
        return disagreements - 2 * (found - 1)
    return next((all_one for all_one in range(disagreements + 1, n + 1) if mcnemar(all_one, 0) < SIGNIFICANT), None)


def paired_interval(only_first: int, only_second: int, n: int) -> tuple[float, float]:
    """95 % interval of the difference of two networks' accuracies on the same images, first minus second.

    Wald's interval with one added to each count (Bonett and Price, British Journal of Mathematical and Statistical
    Psychology 65, 2012): it holds its 95 % also for few images.

    Args:
        only_first: Images that only the first gets right.
        only_second: Images that only the second gets right.
        n: All images.

    Returns:
        Lower and upper end in percentage points.
    """
    first, second = (only_first + 1) / (n + 2), (only_second + 1) / (n + 2)
    half = Z_95 * sqrt((first + second - (first - second) ** 2) / (n + 2))
    return 100 * (first - second - half), 100 * (first - second + half)
