"""What a SQL template may contain, and what is refused."""

import pytest

from models.applications.pictures.job_tables import ENHANCEMENTS, GENERATIONS
from models.applications.registry import job_tables
from models.job_tables.rendering import over
from models.job_tables.template import render


def test_block_is_repeated_for_each_table_with_a_line_between():
    template = "(\n    --: each job table, UNION ALL between\n    SELECT {{id j}} FROM {{table}} j\n    --: end\n)\n"

    assert render(template, job_tables()) == (
        "(\n    SELECT j.id FROM public.image_enhancement_jobs j\n    UNION ALL\n"
        "    SELECT j.id FROM public.mcp_generation_jobs j\n)\n"
    )


def test_each_of_two_blocks_has_its_own_line_between():
    block = "--: each job table, {} between\n{{{{rows}}}}\n--: end\n"

    assert render(block.format("AND") + "-\n" + block.format("OR"), job_tables()) == (
        "enhancements\nAND\ngenerations\n-\nenhancements\nOR\ngenerations\n"
    )


def test_block_may_ask_for_some_tables_only():
    template = "--: each job table whose rows are filled\n{{rows}}\n--: end\n"

    assert render(template, job_tables()) == "enhancements\n"


@pytest.mark.parametrize(
    ("tables", "rest"), [(job_tables(), "a\nin tokens\nb\n"), ([], "a\nfree\nb\n")], ids=["some", "none"]
)
def test_block_may_stand_once_if_a_table_is_paid_in_tokens_and_another_if_none_is(tables, rest):
    block = "--: if {} job table is paid in tokens\n{}\n--: end\n"
    template = f"a\n{block.format('a', 'in tokens')}{block.format('no', 'free')}b\n"

    assert render(template, tables) == rest


def test_line_of_a_fact_without_text_is_left_out():
    template = "--: each job table\nBEGIN\n    {{clear the stage}}\nEND\n--: end\n"

    assert render(template, [GENERATIONS]) == "BEGIN\nEND\n"
    assert "currentStage" in render(template, [ENHANCEMENTS])


def test_fact_chosen_by_type_refuses_a_type_of_no_table():
    text = render("{{source of d.job_type}}", job_tables())

    assert text.split() == [
        *("CASE", "WHEN", "d.job_type", "IN", "('enhance',", "'blend')", "THEN", "'enhancement'"),
        *("WHEN", "d.job_type", "IN", "('generate',", "'modify')", "THEN", "'mcp_generation'"),
        *("ELSE", "darkroom.unknown_type(d.job_type)", "END"),
    ]


@pytest.mark.parametrize(
    ("template", "error"),
    [
        ("{{colour}}", KeyError),
        ("{{colour of j.job_type}}", KeyError),
        ("--: each job table\n{{colour}}\n--: end\n", KeyError),
        ("--: each job table that is blue\n--: end\n", KeyError),
        ("--: each job table\n", ValueError),
        ("--: end\n", ValueError),
        ("{{Table}}", ValueError),
    ],
)
def test_what_is_no_block_and_no_fact_is_refused(template, error):
    with pytest.raises(error):
        render(template, job_tables())


@pytest.mark.parametrize(
    ("fragment", "written"),
    [
        ('r."userId"', 'j."userId"'),
        ("coalesce(r.a, 'r.b') || r.c", "coalesce(j.a, 'r.b') || j.c"),
        ('r."r.x" || other.r', 'j."r.x" || other.r'),
        ("darkroom.price(r.tier::text)", "darkroom.price(j.tier::text)"),
    ],
)
def test_fragment_over_another_alias_leaves_quoted_text_as_it_is(fragment, written):
    assert over(fragment, "j") == written
