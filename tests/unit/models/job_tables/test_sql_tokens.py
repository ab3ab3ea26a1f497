import pytest

from models.job_tables.sql_tokens import (
    columns_named,
    goes_beyond,
    tokens,
    with_alias,
    with_placeholders,
    without_comments,
)

ODD = [
    (
        "SELECT 'it''s $key', E'\\' $key', \"a $key\"\"b\", $$ $key $$, $t$ $$ $key $t$ -- $key\n, a$key, "
        "/* $key /* x */ $key */ $key + x"
    ),
    "$key || 'x' || $key",
    "'not ended $key",
    "/* not ended $key",
    "$key$ a quote $key$",
    "E'not ended \\",
    'U&"d\\0061t" + $key',
]


@pytest.mark.parametrize("sql", ODD)
def test_tokens_are_the_whole_text(sql):
    assert "".join(one.text for one in tokens(sql)) == sql


def test_placeholders_are_replaced_only_where_they_are_placeholders():
    assert [with_placeholders(sql, {"$key": "KEY"}) for sql in ODD] == [
        ODD[0].replace("*/ $key +", "*/ KEY +"),
        "KEY || 'x' || KEY",
        *ODD[2:6],
        'U&"d\\0061t" + KEY',
    ]
    assert with_placeholders("$other, $keys", {"$key": "KEY"}) == "$other, $keys"


def test_alias_is_replaced_where_it_names_the_row():
    assert with_alias("r.a || R.b || x.r || 'r.c' || \"r\".d, to_jsonb(r)", "r", "($1)") == (
        "($1).a || ($1).b || x.r || 'r.c' || ($1).d, to_jsonb(($1))"
    )


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("r.price * r.Size", ["price", "size"]),
        ('r."Size" || r."a""b"', ['a"b']),
        ("price + 1", ["price"]),
        ("(SELECT c.size FROM c WHERE c.id = r.price)", ["price"]),
        ("size(r.price) + price::size", ["price"]),
        ("'r.price' -- r.size", []),
        ("to_jsonb(r) ->> 'price'", ["price"]),
        ("to_jsonb(r.*) ->> 'size'", ["size"]),
        ("r.nothing", []),
    ],
)
def test_columns_that_a_fragment_names_are_found(sql, named):
    assert columns_named(sql, "r", ["price", "size", 'a"b', "Other"]) == named


@pytest.mark.parametrize(("sql", "is_beyond"), [("(a[1])", False), ("a;", True), ("a)", True), ("';)'", False)])
def test_semicolon_and_lone_parenthesis_go_beyond_an_expression(sql, is_beyond):
    assert goes_beyond(sql) == is_beyond


def test_comments_become_spaces():
    assert without_comments("a -- b\n+ /* c */ '--d'") == "a  \n+   '--d'"
