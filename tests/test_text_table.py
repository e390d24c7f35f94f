import pytest

from bcdzoo.text_table import Column, columns_wide, table

COLUMNS = (Column("name"), Column("count", right=True), Column("note", rank=1), Column("place", rank=2))
ROWS = [("one", "1", "first of them", "here"), ("three hundred", "300", "last", "there")]


def test_a_table_that_has_room_shows_every_column_aligned() -> None:
    assert table(COLUMNS, ROWS, "text", 80).splitlines() == [
        "name           count  note           place",
        "one                1  first of them  here",
        "three hundred    300  last           there",
    ]


@pytest.mark.parametrize("width", range(20, 60))
def test_no_line_is_wider_than_the_terminal_and_what_is_missing_is_said(width: int) -> None:
    lines = table(COLUMNS, ROWS, "text", width).splitlines()
    assert max(map(len, lines)) <= width
    told = " ".join(lines[4:])
    assert ("place" in lines[0]) == ("place" not in told)
    assert ("note" in lines[0]) == ("note" not in told)
    assert "name" in lines[0] and "count" in lines[0]


def test_the_columns_of_the_highest_rank_go_first() -> None:
    head, *_ = table(COLUMNS, ROWS, "text", 38).splitlines()
    assert head.split() == ["name", "count", "note"]


def test_a_column_that_folds_goes_on_below_and_loses_no_word() -> None:
    said = "binary, but for three of its channels, which are constant on these images"
    lines = table((Column("layer"), Column("verdict", fold=True)), [("conv", said)], "text", 40).splitlines()
    assert max(map(len, lines)) <= 40 and len(lines) > 2
    assert " ".join(" ".join(lines[1:]).split()) == f"conv {said}"


def test_long_text_is_shortened_in_its_middle_where_nothing_else_helps() -> None:
    lines = table((Column("model"), Column("n", right=True)), [("a" * 50 + "z", "123456")], "text", 30).splitlines()
    assert len(lines[1]) == 30 and "…" in lines[1] and lines[1].endswith("z  123456")


def test_wide_and_combining_characters_take_the_columns_that_a_terminal_gives_them() -> None:
    assert (columns_wide("二値"), columns_wide("e\u0301")) == (4, 1)
    assert columns_wide("\x1b[1mbold\x1b[0m") == 4
    lines = table(
        (Column("name"), Column("n")), [("二値", "1"), ("e\u0301", "2"), ("abcd", "3")], "text", 40
    ).splitlines()
    assert lines[1:] == ["二値  1", "e\u0301     2", "abcd  3"]
    wide = table((Column("name"), Column("n")), [("値" * 40, "1")], "text", 30).splitlines()
    assert columns_wide(wide[1]) <= 30


def test_markdown_keeps_every_column_and_cells_stay_cells() -> None:
    lines = table(COLUMNS, [*ROWS, ("a|b", "\x1b[2J", "x\ny", "")], "markdown", 10).splitlines()
    assert lines[1].count(":") == 1 and len(lines) == 5
    assert {line.replace(r"\|", "").count("|") for line in lines} == {5}
    assert all(line.isprintable() for line in lines)


def test_a_table_without_rows_is_its_heading() -> None:
    assert table(COLUMNS, [], "text", 80) == "name  count  note  place"


def test_a_bar_in_a_heading_is_none_between_columns_of_markdown() -> None:
    head, rule, row = table([Column("a|b"), Column("c", right=True)], [["1|2", "3"]], "markdown").splitlines()
    assert (head, row) == (r"| a\|b   |   c |", r"| 1\|2   |   3 |")
    assert len(head) == len(rule) == len(row)
