"""What is rendered about money for job tables of one kind alone, and for two that share their balances."""

from dataclasses import replace

import pytest

from models.applications.pictures.job_tables import ENHANCEMENTS, GENERATIONS
from models.job_tables.table import INTEGER, Balance
from models.job_tables.template import render
from models.schema.migrations.session import MODELS
from models.schema.terms import TERMS

MONEY = ("money/balances.sql", "money/money.sql", "queue/refusals.sql")
CREDITS = Balance("public.customers", "id", "b.credits", "credits = b.credits + $amount", INTEGER)
ORDERS = replace(ENHANCEMENTS, rows="orders", application="shop", job_types=("shop.order",), money=CREDITS)
PRINTS = replace(ORDERS, rows="prints", application="print", job_types=("print.print",))


def rendered(name, *tables):
    return render((MODELS / name).read_text(encoding="utf-8"), tables, TERMS)


@pytest.mark.parametrize("name", MONEY)
@pytest.mark.parametrize("tables", [(ORDERS,), (replace(ORDERS, money=None),)], ids=["balances", "nobody pays"])
def test_money_of_a_database_without_tokens_names_no_table_of_tokens(name, tables):
    sql = rendered(name, *tables)

    assert [word for word in ("public.user", "public.token", '"TokenTransactionType"') if word in sql] == []


def test_money_in_tokens_alone_names_no_account():
    sql = "".join(rendered(name, ENHANCEMENTS, GENERATIONS) for name in MONEY)

    assert "balances_of_" not in sql


def test_tables_that_share_balances_share_accounts_under_the_first_ones_names():
    sql = rendered("money/balances.sql", ORDERS, PRINTS)

    assert sql.count("CREATE OR REPLACE FUNCTION darkroom.charge_") == 2
    assert sql.count("CREATE OR REPLACE FUNCTION darkroom.follow_balances_of_") == 1
    assert "follow_balances_of_orders" in sql
    assert "'print'," not in sql
    assert "ARRAY['shop.order', 'print.print']" in sql


def test_fragments_run_with_the_search_path_of_their_description():
    sql = rendered("money/balances.sql", replace(ORDERS, search_path='pg_catalog, "My shop", pg_temp'))

    functions = sql.split("CREATE OR REPLACE FUNCTION ")
    with_fragments = [one for one in functions if "b.credits" in one]
    assert len(with_fragments) == 5
    assert all('SET search_path = pg_catalog, "My shop", pg_temp' in one for one in with_fragments)


def test_change_may_say_its_amount_more_than_once_and_in_words():
    twice = replace(CREDITS, change="credits = b.credits + $amount, note = 'by $amount ' || $amount")

    sql = rendered("money/balances.sql", replace(ORDERS, money=twice))

    assert "credits = b.credits + (d.by_tokens), note = 'by $amount ' || (d.by_tokens) FROM" in sql
