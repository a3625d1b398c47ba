"""Overrides as they are typed: quoting is undone by a shell and by Hydra, and text stays text."""

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st

from ripu_lightning.cli.overrides import for_shell, keep_text, quoted

# Hydra reads ${...} in quotes as a reference, and neither it nor a shell takes NUL.
TEXTS = st.text(st.characters(exclude_characters="\x00$", exclude_categories=["Cs"]), min_size=1, max_size=12)


def read(override: str) -> object:
    (parsed,) = OverridesParser.create().parse_overrides([override])
    return parsed.value()


@given(TEXTS)
@example("it's")
@example("ends with \\")
@example("\\'\\\"\\")
@example("lr=0.1, [é] {x} (y) #~")
def test_quotes_are_undone(text: str) -> None:
    assert read(f"key={quoted(text)}") == text
    assert [read(word) for word in shlex.split(for_shell("key", text))] == [text]


@given(
    st.one_of(st.integers(), st.floats(), st.booleans(), st.none()).map(str)
    | st.sampled_from(["2024_11_29", "1e3", "0012", "true", "NULL", "Inf", "-nan", "+1_0.5e-3", ".5", "0x12", "1:30"])
)
def test_text_stays_text(typed: str) -> None:
    for key in ("output", "name", "data.target.root", "+data.source.root", "hydra.run.dir", "checkpoint"):
        (override,) = keep_text([f"{key}={typed}"])
        assert read(override) == typed


@pytest.mark.parametrize(
    "override",
    ["seed=1e3", "budget.images=5", "output", "data.target.split=null", "initial=null", "output=${name}_1",
     "data=roads", "data.source_size=[36,64]", "output=runs/1e3", "--multirun", "trainer.devices=2"],
)  # fmt: skip
def test_everything_else_is_left(override: str) -> None:
    assert keep_text([override]) == [override]


def test_the_values_of_a_sweep_stay_text() -> None:
    (override,) = OverridesParser.create().parse_overrides(keep_text(["name=2024_11_29,1e3,b"]))
    assert [*override.sweep_string_iterator()] == ["'2024_11_29'", "'1e3'", "b"]
