"""The choices that a job's own row makes in one object: each bad one is named by its path."""

import pytest

from pipelines.errors import InvalidOptionsError
from pipelines.parameters import Parameters, read_parameters

FAULTS = [
    ([], "parameters: must be an object"),
    ({"sise": "1K"}, "parameters.sise: unknown key; known are size, count, aspect, model, temperature"),
    ({"aspect": "16x9"}, "parameters.aspect: aspect '16x9' is no W:H, such as 16:9"),
    ({"aspect": "0:1"}, "parameters.aspect: aspect '0:1' is no W:H, such as 16:9"),
    ({"aspect": f"1:{'9' * 5000}"}, f"parameters.aspect: aspect '1:{'9' * 18}' is no W:H, such as 16:9"),
    ({"aspect": 1.5}, "parameters.aspect: must be a string such as 16:9"),
    ({"model": 5}, "parameters.model: must be a string, found an integer"),
    ({"model": ""}, "parameters.model: at least 1 characters, found 0"),
    ({"temperature": "hot"}, "parameters.temperature: must be a number, found a string"),
    ({"temperature": 2.5}, "parameters.temperature: between 0 and 2, found 2.5"),
    ({"temperature": True}, "parameters.temperature: must be a number, found a boolean"),
]


@pytest.mark.parametrize(("parameters", "words"), FAULTS)
def test_fault_begins_with_its_path(parameters, words):
    with pytest.raises(InvalidOptionsError) as caught:
        read_parameters(parameters)

    assert str(caught.value) == words


def test_choices_are_read_and_null_is_none_of_them():
    chosen = {"size": "2K", "count": 3, "aspect": "16:9", "model": "m", "temperature": 1}

    assert read_parameters(chosen) == Parameters("16:9", "m", 1)
    assert read_parameters(dict.fromkeys(chosen)) == read_parameters({}) == Parameters()
