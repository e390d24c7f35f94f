from fractions import Fraction
from math import comb
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bcdzoo.evaluation.stats import Z_95, mcnemar, paired_interval, smallest_significant, student, welch, wilson


# Newcombe, Two-sided confidence intervals for the single proportion, Statistics in Medicine 17 (1998), table I.
@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(81, 263, 25.53, 36.62), (15, 148, 6.24, 16.05), (0, 20, 0.00, 16.11), (1, 29, 0.61, 17.18)],
)
def test_the_interval_is_the_published_one(hits: int, n: int, low: float, high: float) -> None:
    assert wilson(hits, n) == pytest.approx((low, high), abs=0.005)


@given(st.integers(1, 50_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_each_end_is_as_many_standard_errors_from_the_proportion_as_its_definition_says(
    counts: tuple[int, int],
) -> None:
    hits, n = counts
    low, high = (end / 100 for end in wilson(hits, n))
    assert 0 <= low <= hits / n <= high <= 1
    for end in (low, high):
        assert (hits / n - end) ** 2 == pytest.approx(Z_95**2 * end * (1 - end) / n, rel=1e-6, abs=1e-15)


def test_swapping_hits_and_misses_mirrors_the_interval() -> None:
    low, high = wilson(36_150, 50_000)
    assert wilson(13_850, 50_000) == pytest.approx((100 - high, 100 - low))
    assert high - low == pytest.approx(0.78, abs=0.01)  # what 50,000 images can tell at 72.3 %


@given(st.integers(0, 120), st.integers(0, 120))
def test_mcnemars_p_is_the_exact_binomial_one(only_first: int, only_second: int) -> None:
    n, fewer = only_first + only_second, min(only_first, only_second)
    tail = Fraction(sum(comb(n, k) for k in range(fewer + 1)), 2**n)
    assert mcnemar(only_first, only_second) == pytest.approx(float(min(Fraction(1), 2 * tail)), rel=1e-9)


def test_mcnemars_p_is_quick_and_right_for_fifty_thousand_images() -> None:
    # against the normal approximation with continuity correction, which is good for so many
    z = (abs(1600 - 1450) - 1) / (1600 + 1450) ** 0.5
    assert mcnemar(1600, 1450) == pytest.approx(2 * (1 - NormalDist().cdf(z)), rel=0.02)
    assert mcnemar(25_000, 0) == 0


def exact(only_first: int, only_second: int) -> Fraction:
    n, fewer = only_first + only_second, min(only_first, only_second)
    return min(Fraction(1), 2 * Fraction(sum(comb(n, k) for k in range(fewer + 1)), 2**n))


@pytest.mark.parametrize("disagreements", [*range(6, 80), 301, 302])
def test_the_smallest_significant_difference_is_that_of_all_ways_to_divide_the_disagreements(
    disagreements: int,
) -> None:
    gaps = [
        disagreements - 2 * fewer
        for fewer in range(disagreements // 2 + 1)
        if exact(disagreements - fewer, fewer) < Fraction(1, 20)
    ]
    assert smallest_significant(disagreements, 1000) == min(gaps)


def test_fewer_than_six_disagreements_tell_nothing_and_it_takes_six_of_one_kind() -> None:
    assert exact(5, 0) > Fraction(1, 20) > exact(6, 0)
    assert [smallest_significant(few, 1000) for few in range(6)] == [6] * 6
    assert smallest_significant(2, 5) is None


def test_a_difference_is_significant_just_when_it_is_not_below_the_smallest_one() -> None:
    for first in range(40):
        for second in range(40):
            takes = smallest_significant(first + second, 1000)
            assert takes is not None
            assert (mcnemar(first, second) < 0.05) == (abs(first - second) >= takes)


def test_the_interval_of_a_difference_holds_the_truth_in_95_percent_of_simulated_comparisons() -> None:
    dice = np.random.default_rng(0)
    for n, first, second in ((50, 0.1, 0.15), (2000, 0.06, 0.05)):
        counts = dice.multinomial(n, [first, second, 1 - first - second], size=4000)
        holds = [
            low <= 100 * (first - second) <= high for low, high in (paired_interval(b, c, n) for b, c, _ in counts)
        ]
        assert 0.94 < np.mean(holds) < 0.98


@pytest.mark.parametrize("df", [1, 1.3, 2, 4.7, 10, 33.3, 1000])
def test_the_tails_of_students_t_are_scipys(df: float) -> None:
    for t in (0, 1e-6, 0.1, 0.7, 1, 2, 3, 5.5, 12, -2.5, 300):
        assert student(t, df) == pytest.approx(2 * stats.t.sf(abs(t), df), rel=1e-8, abs=1e-14)


def test_groups_that_do_not_vary_have_no_test() -> None:
    assert welch([1.0, 1.0], [2.0, 2.0, 2.0]) is None
    found = welch([1.0, 1.0], [1.0, 2.0])
    assert found and found.df == 1.0 and found.p == pytest.approx(0.5)
