"""The page and the schema are the model's."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from mta.config.documentation import example, page, schema
from mta.config.model import Configuration, Limits
from mta.config.problem import CODES

ROOT = Path(__file__).parents[3]


def test_the_page_is_up_to_date() -> None:
    assert page() == (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8"), "run: make docs"


def test_every_key_has_a_meaning_and_every_code_stands_in_the_page() -> None:
    text = page()
    assert [name for name in Limits.model_fields if f"| `{name}` |" not in text] == []
    assert [line for line in text.split("\n") if line.endswith("|  |")] == []
    assert [code for code in CODES if f"| {code} |" not in text] == []


def test_the_examples_of_the_page_make_a_configuration_together() -> None:
    made = Configuration.model_validate(tomllib.loads(example()))
    assert made.limits == Limits()
    assert made.tls.name[0].names == ["smtp.example.net"]


def test_the_schema_knows_every_key_and_no_switch_for_tests() -> None:
    made = json.loads(json.dumps(schema()))
    assert set(made["properties"]) == set(Configuration.model_fields) - {"test_only"}
    assert made["additionalProperties"] is False
    assert "TestOnly" not in json.dumps(made)


@pytest.mark.parametrize("value", ["25M", 26214400])
def test_the_schema_takes_sizes_as_people_write_them(value: object) -> None:
    kinds = schema()["$defs"]["Limits"]["properties"]["message_size"]["anyOf"]
    assert any((kind["type"] == "string") == isinstance(value, str) for kind in kinds)
