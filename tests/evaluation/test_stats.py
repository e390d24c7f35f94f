import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcdzoo.evaluation.stats import Z_95, wilson


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
