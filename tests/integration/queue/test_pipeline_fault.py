"""The rules of a pipeline's JSON in SQL find the same faults, at the same paths, as pipelines/options.py."""

import json

import pytest

from config.pipeline_rules import RULES
from pipelines.errors import InvalidOptionsError
from pipelines.options import check


def nested(path, value):
    """Return JSON that holds a value at a rule's path; an array gets a sound element before it."""
    for step in reversed(path.split(".")):
        name = step.removesuffix("[]").replace("*", "isDark")
        value = {name: [{"description": "sound"}, value] if step.endswith("[]") else value}
    return value


VALUES = (
    *(None, True, 0, 1, 2, 2.0, 2.5, 3, 3.0, 0.5, 11, -1, 1e300, -0.0, 201),
    *("", "x", "x" * 201, "ü" * 501, "\U0001f600" * 500, "x" * 2_049),
    *([], [1], [{}, {}, {}], [{}, {}, {}, {}], {}, {"enabled": 1}),
)

SAMPLES = (
    {},
    {"unknown": 1, "analysisConfig": {"unknown": []}},
    {"analysisConfig": None, "autoCropConfig": None, "promptConfig": None, "generationConfig": None},
    {"analysisConfig": [{"enabled": 1}]},
    {"promptConfig": [{"referenceImages": 5}]},
    {"promptConfig": {"defectOverrides": [True]}},
    {"promptConfig": {"defectOverrides": {"isDark": "x" * 501}}},
    {"promptConfig": {"defectOverrides": {"isDark": None, "isBlurry": 1}}},
    {"promptConfig": {"defectOverrides": {"isUgly": 1}}},
    {"promptConfig": {"defectOverrides": {"hasNoise": "so", "isOverexposed": False, "hasColorCast": {}}}},
    {"promptConfig": {"referenceImages": {"url": 5}}},
    {"promptConfig": {"referenceImages": [None, {"url": 5}]}},
    {"promptConfig": {"referenceImages": [[{"url": "x"}]]}},
    {"promptConfig": {"referenceImages": [{"url": "x"}, "x", {"url": 5}]}},
    {"promptConfig": {"referenceImages": [{"description": "x"}, {"r2Key": "x" * 1025}, {"url": 5}]}},
    {"promptConfig": {"referenceImages": [{"url": "x", "r2Key": 1}, {"url": 1}]}},
    {"generationConfig": {"retryAttempts": 4, "temperature": 2.0000001}},
    {"generationConfig": {"retryAttempts": "4"}},
    {"generationConfig": 1, "analysisConfig": {"model": ""}},
    {"autoCropConfig": {"minCropRatio": 1.0, "allowUIElementCrop": "yes"}},
)

ALL_SAMPLES = [*SAMPLES, *(nested(rule.path, value) for rule in RULES for value in VALUES)]


def fault_of(pipeline):
    try:
        check(pipeline)
    except InvalidOptionsError as error:
        return str(error).partition(": ")[0]
    return None


async def sql_fault_of(database, pipeline):
    fault = await database.fetchval("SELECT darkroom.pipeline_fault($1)", pipeline)
    return None if fault is None else fault.partition(": ")[0]


async def test_sql_and_python_find_the_same_faults_at_the_same_places(database):
    assert len(ALL_SAMPLES) > 60
    expected = {json.dumps(pipeline): fault_of(pipeline) for pipeline in ALL_SAMPLES}

    found = {json.dumps(pipeline): await sql_fault_of(database, pipeline) for pipeline in ALL_SAMPLES}

    assert {sample: (found[sample], expected[sample]) for sample in found if found[sample] != expected[sample]} == {}
    assert {path is None for path in expected.values()} == {True, False}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.path)
async def test_sql_knows_every_rule(database, rule):
    wrong = 5 if rule.type not in {"number", "integer"} else "five"

    fault = await database.fetchval("SELECT darkroom.pipeline_fault($1)", nested(rule.path, wrong))

    assert fault.startswith(rule.path.replace("[]", "[1]").replace("*", "isDark") + ": must be ")


async def test_sql_takes_a_number_of_any_length(database):
    found = await database.fetchval(
        """SELECT darkroom.pipeline_fault(jsonb_build_object('generationConfig',
               jsonb_build_object('retryAttempts', ('1' || repeat('0', 5000))::numeric)))"""
    )

    assert found.startswith("generationConfig.retryAttempts: between 1 and 10")


async def test_sql_of_nothing_finds_nothing(database):
    assert await database.fetchval("SELECT darkroom.pipeline_fault('{}')") is None
    assert await database.fetchval("SELECT darkroom.pipeline_fault(NULL)") is None
