import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcdzoo.text import html_table, masked, printable, say


@given(st.text())
def test_what_is_printed_is_one_line_of_printable_characters_and_not_long(text: str) -> None:
    assert printable(text).isprintable()
    assert len(printable(text, 50)) <= 50 * 10


def test_a_terminal_gets_no_command_from_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\x1b[2K\rbcdzoo: all is well\n\u202egnp.exe")
    assert capsys.readouterr().err == "bcdzoo: a\\x1b[2K\\rbcdzoo: all is well\\n\\u202egnp.exe\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot reach https://me:secret@host:8/a/b.pth: gone", "cannot reach https://…@host:8/a/b.pth: gone"),
        ("from http://host/f?token=secret&id=7, then", "from http://host/f?token=…&id=7, then"),
        ("(https://host/f?X-Amz-Signature=secret#also)", "(https://host/f?X-Amz-Signature=…)"),
        ("https://host/f?secret", "https://host/f?…"),
        ("https://drive.google.com/uc?id=1a&export=download", "https://drive.google.com/uc?id=1a&export=download"),
        ("'http://[::1]:8/f?token=secret', 'http://me:p)s'w@host/f'", "'http://[::1]:8/f?token=…', 'http://…@host/f'"),
        ("http://me:pa/ss@host/f and http://host:80/a@2/f", "http://…@host/f and http://host:80/a@2/f"),
        ("exceeded with url: /f?id=7;token=secret (Caused", "exceeded with url: /f?id=7&token=… (Caused"),
        ("PROXY=me:secret@proxy:3128 or me:secret@proxy", "PROXY=…@proxy:3128 or …@proxy"),
        ("/home/me/cache@2, really? package.module:callable", "/home/me/cache@2, really? package.module:callable"),
        ("http://user:12/ab@host/f or http://user:12/3/a@[::1]:8/f", "http://…@host/f or http://…@[::1]:8/f"),
        ("http://user:1?ab@10.0.0.7:80/f, PROXY=user:12/ab@host", "http://…@10.0.0.7:80/f, PROXY=…@host"),
        ("user:12/ab@host:3128 and 'me:pa/ss@proxy.org'", "…@host:3128 and '…@proxy.org'"),
        ("https://host:443/pkg@1.2.3/f module:12 a.py:3/4", "https://host:443/pkg@1.2.3/f module:12 a.py:3/4"),
        ("https://user:pa?ss@host/x and //user:pw@host/x", "https://…@host/x and //…@host/x"),
        ("no link: a@b, 50 % //x", "no link: a@b, 50 % //x"),
    ],
)
def test_passwords_and_tokens_are_masked_and_the_rest_of_a_link_stays(text: str, shown: str) -> None:
    assert masked(text) == shown


@pytest.mark.parametrize("text", [")" * 100_000, "=a:" * 100_000, "//a:" * 100_000, "https://a@" * 50_000])
def test_long_text_takes_no_time(text: str) -> None:
    clock = time.process_time()
    printable(masked(text))
    assert time.process_time() - clock < 5


def test_a_notebook_takes_nothing_in_a_table_for_html() -> None:
    assert html_table([("a<b", "<script>alert('x')</script>\x1b")]) == (
        '<table><tr><th style="text-align: left">a&lt;b</th>'
        "<td>&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;\\x1b</td></tr></table>"
    )
