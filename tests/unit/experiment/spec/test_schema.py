from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secfpp.errors import ConfigError, Problem
from secfpp.experiment.spec.schema import build, check, dotted, dump, kinds, one_of
from support_experiment import Grouped, Grouping, Means, Single, Training


def made(declared: type, table: object, start: object = None) -> tuple[Any, dict[str, Problem]]:
    problems: list[Problem] = []
    value = build(declared, table, "t", problems, start)
    return value, {problem.key: problem for problem in problems}


def test_nothing_given_is_the_default() -> None:
    assert made(Grouped, {}) == (Grouped(), {})


def test_nested_tables_keep_the_fields_own_defaults() -> None:
    value, problems = made(Grouped, {"training": {"steps": 9}, "grouping": {"k": 3}})
    assert problems == {}
    assert value.training == Training(lr=0.01, steps=9)  # 0.01 is Grouped's default, not Training's
    assert value.grouping == Means(k_max=6, k=3)


def test_kind_chooses_the_class_and_starts_from_its_defaults() -> None:
    assert made(Grouped, {"grouping": {"kind": "single"}})[0].grouping == Single()
    assert made(Grouped, {"spare": {"kind": "means"}})[0].spare == Means()
    assert kinds(Grouping) == {"single": Single, "means": Means}


def test_a_class_without_a_kind_of_its_own_is_never_chosen() -> None:
    class Stricter(Single):
        """Has its base's kind by inheritance."""

    assert Stricter.kind == "single" and kinds(Grouping)["single"] is Single


def test_every_problem_is_reported_with_its_dotted_key() -> None:
    value, problems = made(
        Grouped,
        {
            "trainings": {},
            "class_prior": "yes",
            "training": {"lr": -1.0, "steps": 2.5},
            "grouping": {"kind": "mean"},
            "betas": [0.1, "x"],
        },
    )
    assert value is None
    assert set(problems) == {
        "t.trainings",
        "t.class_prior",
        "t.training.lr",
        "t.training.steps",
        "t.grouping.kind",
        "t.betas[1]",
    }
    assert "did you mean 'training'" in problems["t.trainings"].allowed
    assert problems["t.training.lr"].allowed == "should be above 0"
    assert "did you mean 'means'" in problems["t.grouping.kind"].allowed
    assert problems["t.class_prior"].value == "yes"


def test_a_table_is_needed_where_a_component_is() -> None:
    _, problems = made(Grouped, {"training": 3})
    assert "[t.training]" in problems["t.training"].allowed


def test_an_abstract_component_without_default_needs_a_kind() -> None:
    _, problems = made(Grouped, {"spare": {}})
    assert "one of: means, single" in problems["t.spare.kind"].allowed


def test_a_missing_required_value_is_named() -> None:
    @dataclass(frozen=True)
    class Needs:
        size: int
        where: Path = Path("x")

    assert set(made(Needs, {})[1]) == {"t.size"}
    assert made(Needs, {"size": 1, "where": "a/b"})[0] == Needs(1, Path("a/b"))


def test_none_is_a_word_where_none_is_allowed_only() -> None:
    assert made(Means, {"k": "none"}, Means(k=4))[0] == Means(k=None)
    assert made(Grouped, {"spare": "none"})[0].spare is None
    assert set(made(Means, {"k_max": "none"})[1]) == {"t.k_max"}


def test_any_value_error_of_the_class_becomes_a_problem() -> None:
    @dataclass(frozen=True)
    class Strict:
        size: int = 1

        def __post_init__(self) -> None:
            if self.size % 2 == 0:
                raise ValueError("odd sizes only")

    assert "odd sizes only" in made(Strict, {"size": 2})[1]["t"].allowed


@pytest.mark.parametrize(
    ("hint", "value"), [(int, "3"), (int, 3.0), (int, True), (float, "0.1"), (bool, 1), (str, 3), (Literal["a"], "b")]
)
def test_types_are_strict(hint: Any, value: object) -> None:
    problems: list[Problem] = []
    check(hint, value, "k", problems)
    assert [problem.key for problem in problems] == ["k"]


def test_an_integer_may_stand_for_a_float() -> None:
    assert check(float, 3, "k", []) == 3.0


@pytest.mark.parametrize(
    ("hint", "value"), [(int, np.int64(3)), (float, np.float32(0.5)), (float, np.int8(3)), (bool, np.True_)]
)
def test_numbers_of_numpy_are_numbers_of_their_kind(hint: Any, value: Any) -> None:
    problems: list[Problem] = []
    found = check(hint, value, "k", problems)
    assert found == value and type(found) is hint and not problems
    check(int, np.float64(0.5), "k", problems)
    assert "integer" in problems[0].allowed


@given(
    st.builds(
        Grouped,
        class_prior=st.booleans(),
        training=st.builds(Training, lr=st.floats(1e-6, 1e6), steps=st.integers(-5, 5)),
        grouping=st.one_of(st.builds(Single), st.builds(Means, k_max=st.integers(1, 9), k=st.none() | st.integers())),
        spare=st.none() | st.builds(Single) | st.builds(Means),
        betas=st.lists(st.floats(allow_nan=False)).map(tuple),
    )
)
def test_dump_then_build_gives_an_equal_object(value: Grouped) -> None:
    assert made(Grouped, dump(value)) == (value, {})


def test_dotted_quotes_what_toml_would() -> None:
    assert dotted("variants", "coop+prior", "lr") == 'variants."coop+prior".lr'


def test_one_of_names_all_and_the_nearest() -> None:
    assert (
        one_of("promptf", ["promptfl", "secfpp"], "method")
        == "unknown method; did you mean 'promptfl'? Known: promptfl, secfpp"
    )
    assert "did you mean" not in one_of("zzz", ["promptfl"], "method")


@pytest.mark.parametrize("given", ["size", "part.size", "top.part.size"])
def test_a_class_may_name_its_key_with_or_without_its_table(given: str) -> None:
    @dataclass(frozen=True)
    class Part:
        size: int = 0

        def __post_init__(self) -> None:
            raise ConfigError([Problem(given, self.size, "no")])

    problems: list[Problem] = []
    build(Part, {}, "top.part", problems)
    assert [problem.key for problem in problems] == ["top.part.size"]
