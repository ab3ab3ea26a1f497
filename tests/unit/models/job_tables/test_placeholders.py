"""Where a placeholder in a description's SQL is one, and where the text is a string, a name or a comment."""

import pytest

from models.job_tables.sql_tokens import with_placeholders


@pytest.mark.parametrize(
    ("sql", "written"),
    [
        ("a = a + $amount", "a = a + (d.n)"),
        ("$amount+$amount", "(d.n)+(d.n)"),
        ("'$amount' || $amount", "'$amount' || (d.n)"),
        ("'it''s $amount' || $amount", "'it''s $amount' || (d.n)"),
        (r"E'it\'s $amount' || $amount", r"E'it\'s $amount' || (d.n)"),
        (r"'\' || $amount", r"'\' || (d.n)"),
        ('"$amount" + $amount', '"$amount" + (d.n)'),
        ("$$ $amount $$ || $amount", "$$ $amount $$ || (d.n)"),
        ("$q$ $$ $amount $q$ || $amount", "$q$ $$ $amount $q$ || (d.n)"),
        ("1 -- of $amount\n + $amount", "1 -- of $amount\n + (d.n)"),
        ("/* $amount /* $amount */ $amount */ $amount", "/* $amount /* $amount */ $amount */ (d.n)"),
        ("b.price$amount + $amount", "b.price$amount + (d.n)"),
        ("$1 + $amount", "$1 + (d.n)"),
        ("$amounts", "$amounts"),
        ("$user", "$user"),
        ("/* without an end $amount", "/* without an end $amount"),
    ],
)
def test_placeholder_is_replaced_where_it_is_code(sql, written):
    assert with_placeholders(sql, {"$amount": "(d.n)"}) == written
