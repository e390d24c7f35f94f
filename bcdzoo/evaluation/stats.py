"""Statistics of accuracies: intervals and tests."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import takewhile
from math import exp, fsum, lgamma, log, log1p, sqrt
from statistics import fmean, variance
from typing import NamedTuple

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


class Welch(NamedTuple):
    """Welch's test of whether two groups of runs differ in their mean.

    Attributes:
        t: The difference of the means in units of its standard error.
        df: Degrees of freedom, by Welch and Satterthwaite.
        p: The two-sided p-value.
        ci95: Lower and upper end of the 95 % interval of the difference, first minus second.
    """

    t: float
    df: float
    p: float
    ci95: tuple[float, float]


def welch(first: Sequence[float], second: Sequence[float]) -> Welch | None:
    """Welch's t-test (Biometrika 34, 1947), for groups whose variances may differ.

    Args:
        first: At least two numbers.
        second: At least two numbers.

    Returns:
        None where neither group varies: then there is nothing to compare the difference with.
    """
    parts = [variance(group) / len(group) for group in (first, second)]
    if not (error := sqrt(sum(parts))):
        return None
    difference = fmean(first) - fmean(second)
    df = sum(parts) ** 2 / sum(part**2 / (len(group) - 1) for part, group in zip(parts, (first, second), strict=True))
    low, high = 0.0, 1e6  # the t whose p is 5 %; with one degree of freedom it is 12.7
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if student(middle, df) > SIGNIFICANT else (low, middle)
    t = difference / error
    return Welch(t, df, student(t, df), (difference - high * error, difference + high * error))


def student(t: float, df: float) -> float:
    """Probability that Student's t is at least that far from 0.

    It is the regularized incomplete beta function, by its continued fraction and Lentz's method (Abramowitz and Stegun,
    26.5.8 and 26.7.1).
    """
    a, b, x = df / 2, 0.5, df / (df + t * t)
    if x in (0, 1):
        return float(x)
    if swapped := x > (a + 1) / (a + b + 2):  # where the fraction converges slowly
        a, b, x = b, a, t * t / (df + t * t)
    tiny = 1e-300
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1) or tiny)
    fraction = d
    for m in range(1, 1000):
        even, odd = m * (b - m) / (a + 2 * m - 1), -(a + m) * (a + b + m) / (a + 2 * m + 1)
        for factor in (even / (a + 2 * m), odd / (a + 2 * m)):
            d = 1 / (1 + factor * x * d or tiny)
            c = 1 + factor * x / c or tiny
            fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    value = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) * fraction / a
    return 1 - value if swapped else value
