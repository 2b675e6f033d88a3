from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secfpp.data.holdings import PARTS, Holding, Part, Picture
from secfpp.data.splits import split, split_sizes
from secfpp.errors import DataError, DataWarning

SHARES = (0.2, 0.2)


def holding(pictures: list[Picture], client: str = "a", domain: str = "") -> Holding:
    return Holding(f"here, client {client!r}", domain or client, client, tuple(pictures))


def grouped(groups: dict[str, dict[str, int]], client: str = "a") -> Holding:
    """`groups`: group -> class -> how many pictures."""
    return holding(
        [
            Picture(Path(f"{client}/{group}-{label}-{i}.png"), label, None, group)
            for group, counts in groups.items()
            for label, count in counts.items()
            for i in range(count)
        ],
        client,
    )


def quietly(*holdings: Holding, seed: int = 0, shares: tuple[float, float] = SHARES) -> list[list[Part]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return split(holdings, *shares, seed)


def sides(holdings: list[Holding], parts: list[list[Part]]) -> dict[str, set[Part]]:
    """Group -> the parts that it is in."""
    found = defaultdict(set)
    for own, chosen in zip(holdings, parts, strict=True):
        for picture, part in zip(own.pictures, chosen, strict=True):
            found[picture.group].add(part)
    return found


@given(st.integers(1, 5000), st.floats(0.01, 0.98), st.floats(0.01, 0.98), st.booleans(), st.booleans())
def test_every_part_gets_an_image_and_about_its_share(
    n: int, validation: float, test: float, no_validation: bool, no_test: bool
) -> None:
    validation, test = 0 if no_validation else validation, 0 if no_test else test
    train, held = split_sizes(n, validation, test)
    rest = n - train - held
    sizes = [size for size, share in ((train, 1), (held, validation), (rest, test)) if share]
    assert min(train, held, rest) >= 0 and (held == 0 or validation) and (rest == 0 or test)
    assert min(sizes) >= 1 or n < len(sizes)
    if validation + test < 0.9 and n * min(*(s for s in (validation, test, 1) if s), 1 - validation - test) > 2:
        assert abs(held - validation * n) <= 1 and abs(rest - test * n) <= 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(0, 12), st.integers(1, 5)),
        min_size=1,
        max_size=40,
    ),
    st.integers(0, 5),
)
def test_no_group_is_ever_on_two_sides(draws: list[tuple[str, str, int, int]], seed: int) -> None:
    """Whatever classes and clients a group has; a group may have images at several clients."""
    held = defaultdict(list)
    for n, (client, label, group, count) in enumerate(draws):
        held[client] += [Picture(Path(f"{n}-{i}.png"), label, None, str(group or "")) for i in range(count)]
    holdings = [holding(pictures, client) for client, pictures in sorted(held.items())]
    parts = quietly(*holdings, seed=seed)
    assert [len(own) for own in parts] == [len(own.pictures) for own in holdings]
    assert all(len(own) == 1 for group, own in sides(holdings, parts).items() if group)


@pytest.mark.parametrize("sizes", [(4,) * 20, (1,) * 30, (30, 10, 10, 5, 5, 5, 5, 5, 5, 20), (2, 2, 2), (10, 10, 1)])
def test_groups_of_one_class_fill_every_part_in_about_its_share(sizes: tuple[int, ...]) -> None:
    own = grouped({f"g{i}": {"cat": n} for i, n in enumerate(sizes)})
    for seed in range(5):
        counts = Counter(split([own], *SHARES, seed)[0])  # no warning: no part is empty
        assert set(counts) == set(PARTS)
        largest = max(sizes)
        for part, share in (("train", 0.6), ("validation", 0.2), ("test", 0.2)):
            assert abs(counts[part] - share * sum(sizes)) <= largest


def test_patients_with_several_classes_fill_every_part() -> None:
    own = grouped({f"p{i}": {"cat": 1 + i % 3, "dog": 2, "bird": int(i % 4 == 0)} for i in range(24)})
    found = Counter((p.label, part) for p, part in zip(own.pictures, split([own], *SHARES, 1)[0], strict=True))
    assert {key for key, n in found.items() if n} == {(c, part) for c in ("cat", "dog", "bird") for part in PARTS}


def test_a_class_with_too_few_groups_is_trained_on_and_told() -> None:
    own = grouped({"p1": {"cat": 3}, **{f"q{i}": {"dog": 2} for i in range(5)}})
    with pytest.warns(
        DataWarning, match=r"1 classes have too few groups.*'a', class 'cat' \(for validation and test\)"
    ):
        parts = split([own], *SHARES, 0)[0]
    assert [part for p, part in zip(own.pictures, parts, strict=True) if p.label == "cat"] == ["train"] * 3


def test_a_rare_class_is_shared_out_as_a_common_one_is() -> None:
    patients = {f"p{i}": {"common": 10} | ({"rare": 1} if i < 20 else {}) for i in range(40)}
    own = grouped(patients)
    for seed in range(5):
        found = Counter(
            part for p, part in zip(own.pictures, split([own], *SHARES, seed)[0], strict=True) if p.label == "rare"
        )
        assert abs(found["validation"] - 4) <= 1 and abs(found["test"] - 4) <= 1


@pytest.mark.parametrize("shares", [(0.2, 0.2), (0.1, 0.3), (0.3, 0.1)])
def test_where_each_class_has_two_groups_all_are_trained_on_and_no_domain_lacks_a_part(
    shares: tuple[float, float],
) -> None:
    holdings = [grouped({f"{c}{k}{i}": {k: 3} for k in ("cat", "dog") for i in range(2)}, c) for c in "abcd"]
    for seed in range(4):
        parts = quietly(*holdings, seed=seed, shares=shares)
        for own, chosen in zip(holdings, parts, strict=True):
            trained = {p.label for p, part in zip(own.pictures, chosen, strict=True) if part == "train"}
            assert trained == {"cat", "dog"} and set(chosen) == set(PARTS)


def test_groups_are_shared_out_by_the_seed_and_a_new_client_changes_nothing() -> None:
    a, b = (grouped({f"{c}{i}": {"cat": 2, "dog": 1} for i in range(12)}, c) for c in "ab")
    first = quietly(a, seed=1)[0]
    assert quietly(a, b, seed=1)[0] == first == quietly(a, seed=1)[0]
    assert len({tuple(quietly(a, seed=seed)[0]) for seed in range(6)}) > 3


def test_the_place_of_the_files_does_not_matter() -> None:
    def at(folder: str) -> Holding:
        return holding([Picture(Path(folder, f"{i}.png"), "cat", None, "g" * (i < 2)) for i in range(12)])

    assert quietly(at("/here")) == quietly(at("/there"))


def given_parts(parts: dict[str, Part], **groups: str) -> Holding:
    return holding([Picture(Path(f"{name}.png"), "cat", part, groups.get(name, "")) for name, part in parts.items()])


def test_parts_that_are_given_stay() -> None:
    own = given_parts({"a": "test", "b": "train", "c": "validation", "d": "train"})
    assert split([own], *SHARES, 0) == [["test", "train", "validation", "train"]]


@pytest.mark.parametrize(("missing", "there"), [("validation", "test"), ("test", "validation")])
@pytest.mark.parametrize("group", ["", "p"])
def test_a_part_that_none_has_comes_from_training(missing: Part, there: Part, group: str) -> None:
    parts: dict[str, Part] = {f"t{i}": "train" for i in range(10)} | {f"x{i}": there for i in range(3)}
    own = given_parts(parts, **({f"t{i}": f"p{i // 2}" for i in range(10)} if group else {}))
    found = split([own], *SHARES, 0)[0]
    assert found[10:] == [there] * 3
    assert Counter(found[:10]) == {"train": 8, missing: 2}
    assert all(len(where) == 1 for name, where in sides([own], [found]).items() if name)


def test_a_group_that_is_given_two_parts_is_refused_with_its_name() -> None:
    own = given_parts({"a": "train", "b": "test", "c": "test", "d": "train"}, a="p1", b="p1", c="p2", d="p3")
    with pytest.raises(DataError) as caught:
        split([own], *SHARES, 0)
    assert str(caught.value) == (
        "group 'p1' is in two parts, train (a.png) and test (b.png): put all of it into one; if these are two groups "
        "of one name, say so in the name"
    )


def test_it_is_refused_at_two_clients_too() -> None:
    first, second = given_parts({"a": "train"}, a="p1"), given_parts({"b": "validation"}, b="p1")
    with pytest.raises(DataError, match=r"group 'p1' is in two parts, train .* and validation"):
        split([first, second], *SHARES, 0)


def test_all_are_named_but_not_hundreds() -> None:
    groups: dict[str, Any] = {f"{side}{i}": f"p{i}" for side in "ab" for i in range(14)}
    own = given_parts({name: "train" if name[0] == "a" else "test" for name in groups}, **groups)
    with pytest.raises(DataError) as caught:
        split([own], *SHARES, 0)
    assert str(caught.value).count("is in two parts") == 10 and str(caught.value).endswith("; and 4 more problems")
