from models.applications.files.sql_names import base_of
from models.job_tables.quoting import quoted_name


def test_names_are_quoted_where_sql_needs_it():
    names = ["orders", "Orders", "order", "user", 'a"b', "a b", "_x1", "1a", "größe"]

    assert [quoted_name(name) for name in names] == [
        "orders", '"Orders"', '"order"', '"user"', '"a""b"', '"a b"', "_x1", '"1a"', '"größe"',
    ]  # fmt: skip


def test_names_of_ours_are_short_and_mean_one_table():
    pairs = [
        ("frames", "orders"),
        ("a", "b_c"),
        ("a_b", "c"),
        ("frames", "Orders"),
        ("a" * 31, "b" * 63),
        ("a", "größe"),
    ]
    bases = [base_of(*pair) for pair in pairs]

    assert bases[0] == "frames_orders"
    assert len(set(bases)) == len(pairs)
    assert all(base.isascii() and base == base.lower() and len(base) <= 40 for base in bases)
