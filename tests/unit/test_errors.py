from __future__ import annotations

import pytest

from secfpp import errors


def test_every_error_is_one_of_ours() -> None:
    found = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    found = [error for error in found if not issubclass(error, Warning)]
    assert len(found) >= 9
    assert all(issubclass(error, errors.SecFPPError) for error in found)


def test_config_errors_list_every_problem() -> None:
    problems = [errors.Problem("data.shots", 0, "at least 1"), errors.Problem("seed", "x", "an integer")]
    error = errors.ConfigError(problems)
    assert str(error) == "data.shots = 0: at least 1\nseed = 'x': an integer"
    assert error.problems == tuple(problems)
    assert isinstance(error, ValueError)


def test_a_config_error_may_be_one_sentence() -> None:
    error = errors.ConfigError("no such file")
    assert str(error) == "no such file" and error.problems == ()


@pytest.mark.parametrize(("missing", "named"), [(["b", "c"], "b, c"), ([], "none")])
def test_dropouts_are_counted_and_named(missing: list[str], named: str) -> None:
    error = errors.DropoutError("clusterer.describe", 4, 2, missing)
    assert (error.step, error.needed, error.got, error.missing) == ("clusterer.describe", 4, 2, tuple(missing))
    assert "2 clients answered, at least 4" in str(error) and f"missing: {named}." in str(error)
    assert isinstance(error, errors.ProtocolError)


def test_client_errors_say_who_where_and_why() -> None:
    error = errors.ClientError("shop-3", 7, "method.train", ValueError("no images"))
    assert str(error) == "client 'shop-3', round 7, step 'method.train': ValueError: no images"
    assert (error.client, error.round, error.step) == ("shop-3", 7, "method.train")


def test_a_missing_extra_names_the_command() -> None:
    error = errors.MissingExtraError("plotting", "plots")
    assert "pip install 'secfpp[plots]'" in str(error)
    assert isinstance(error, ImportError)


def test_wire_errors_are_protocol_errors() -> None:
    assert issubclass(errors.WireError, errors.ProtocolError)
    assert issubclass(errors.FieldRangeError, ValueError)
