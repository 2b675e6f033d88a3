import numpy as np
import pytest

from secfpp.data.federated import ClientData, FederatedDataset, Split, hold_out
from secfpp.errors import ConfigError, DataError

SPLIT = Split(np.zeros((2, 4, 4, 3), np.uint8), np.array([0, 1]))


def data(clients, test=None, **fields):
    test = {"a": SPLIT} if test is None else test
    return FederatedDataset("toy", fields.pop("classes", ("x", "y")), tuple(clients), test, **fields)


def client(name="n", domain="a", train=SPLIT, validation=SPLIT):
    return ClientData(name, domain, train, validation)


def labelled(*labels, kind=int):
    return Split(np.zeros((len(labels), 4, 4, 3), np.uint8), np.array(labels, kind))


EMPTY = labelled()


def refusal(*args, **fields):
    with pytest.raises(DataError) as caught:
        data(*args, **fields)
    return str(caught.value)


@pytest.mark.parametrize(("wrong", "shown"), [((0, 1, 2), "2"), ((1, 0, -1), "-1")])
def test_a_label_out_of_range_names_one_client_the_image_and_the_rule(wrong, shown):
    rule = f"image 2 (from 0) has the label {shown}: with 2 classes a label is a whole number from 0 to 1"
    clients = [client("m"), client("n", train=labelled(*wrong))]
    assert refusal(clients) == f"client 'n', training {rule}"
    assert refusal([client(validation=labelled(*wrong))]) == f"client 'n', validation {rule}"
    assert refusal([client()], newcomers=(client("late", train=labelled(*wrong)),)) == f"client 'late', training {rule}"
    assert refusal([client()], {"a": labelled(*wrong)}) == f"domain 'a', test {rule}"


def test_several_wrong_labels_of_a_client_are_counted():
    assert "image 1 (from 0) has the label 7 (and 2 more of its images): " in refusal(
        [client(train=labelled(0, 7, 8, 9))]
    )


@pytest.mark.parametrize("test", [{}, {"b": SPLIT}, {"a": EMPTY, "b": SPLIT}])
def test_a_domain_without_test_images_is_named_with_one_client(test):
    message = refusal([client("m"), client("n")], test)
    assert message.startswith("client 'm': its domain 'a' has no test image, and a client is measured on those of its")
    assert ("'b' has some" in message) == ("b" in test) and "'n'" not in message


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (np.zeros((2, 4, 4, 3)), [0, 1], "training images are float64 of shape (2, 4, 4, 3): give uint8"),
        (np.zeros((2, 4, 4), np.uint8), [0, 1], "training images are uint8 of shape (2, 4, 4): give uint8"),
        (SPLIT.images, [0.0, 1.0], "training images have labels float64 of shape (2,): give whole numbers"),
        (SPLIT.images, [[0], [1]], "training images have labels int64 of shape (2, 1): give whole numbers"),
    ],
)
def test_arrays_of_another_kind_are_named_with_the_client(images, labels, words):
    assert refusal([client(train=Split(images, np.array(labels)))]).startswith(f"client 'n', {words}")


def test_names_given_twice_are_named_with_both_positions():
    message = refusal([client("m"), client("n"), client("m")], classes=("crane", "dog", "crane"))
    first, second = message.splitlines()
    assert first.startswith("classes 0 and 2 (from 0) have the same name 'crane': ") and "'crane bird'" in first
    assert second == "clients 0 and 2 (from 0) have the same name 'm': rename one"


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_refused(name):
    assert refusal([client(name)]) == f"the name of client 0 (from 0) is {name!r}: give a text"


def test_names_are_texts():
    assert refusal([client(3)]) == "the name of client 0 (from 0) is 3: give a text"
    assert refusal([client()], classes=("x", 7)) == "the name of class 1 (from 0) is 7: give a text"
    assert refusal([client()], classes="xy") == "classes = 'xy' is one text: give a tuple of names, one for each class"


def test_lists_are_no_arrays():
    with pytest.raises(DataError, match=r"labels are list, not a NumPy array: give numpy\.asarray\(labels\)"):
        Split(SPLIT.images, [0, 1])
    with pytest.raises(DataError, match="images are list"):
        Split([[0]], SPLIT.labels)


def test_what_is_missing_is_named():
    assert "client 'n' has no training image" in refusal([client(train=EMPTY)])
    assert "has no client" in refusal([])
    assert "has no class" in refusal([client(train=EMPTY)], classes=())


def test_a_client_may_do_without_validation_images():
    assert len(data([client(validation=EMPTY)]).clients[0].validation) == 0


def test_all_findings_come_at_once_but_not_hundreds():
    message = refusal([client(f"c{i}", train=labelled(5)) for i in range(14)])
    assert message.count("training image 0") == 10 and message.endswith("; and 4 more problems")


def toy(per_group, group=""):
    clients = [
        ClientData(f"{d}-{i}", d, SPLIT, SPLIT, group and f"{group}{i}") for d in "abc" for i in range(per_group)
    ]
    return FederatedDataset("toy", ("x", "y"), tuple(clients), dict.fromkeys("abc", SPLIT), facts={"why": "test"})


def names(clients):
    return [client.name for client in clients]


def test_a_client_belongs_to_its_domain_unless_it_says_otherwise():
    assert toy(2).groups == ("a", "b", "c")
    assert toy(2, "g").groups == ("g0", "g1")
    assert toy(2, "g").clients[3].true_group == "g1" and toy(2, "g").clients[3].domain == "b"


@pytest.mark.parametrize(
    ("per_group", "share", "held"), [(5, 0.3, 2), (5, 0.2, 1), (5, 0.01, 1), (10, 0.5, 5), (2, 0.5, 1)]
)
def test_newcomers_are_that_share_of_every_group(per_group, share, held):
    before = toy(per_group)
    after = hold_out(before, share, 0)
    assert sorted(names(after.clients) + names(after.newcomers)) == sorted(names(before.clients))
    for domain in "abc":
        assert sum(client.domain == domain for client in after.newcomers) == held
    assert after.test is before.test and after.facts == before.facts and after.groups == before.groups


def test_groups_count_not_domains():
    after = hold_out(toy(4, "g"), 0.3, 0)
    assert sorted(client.group for client in after.newcomers) == ["g0", "g1", "g2", "g3"]


def test_who_is_held_out_depends_on_the_seed_and_not_on_the_order_of_clients():
    data = toy(5)
    turned = FederatedDataset("toy", data.classes, data.clients[::-1], data.test)
    assert names(hold_out(data, 0.3, 1).newcomers) == names(hold_out(turned, 0.3, 1).newcomers)[::-1]
    assert len({tuple(names(hold_out(data, 0.3, seed).newcomers)) for seed in range(8)}) > 4


def test_newcomers_stay_newcomers():
    once = hold_out(toy(5), 0.2, 0)
    twice = hold_out(once, 0.2, 0)
    assert names(twice.newcomers)[:3] == names(once.newcomers) and len(twice.newcomers) == 6


def test_a_group_that_would_be_left_empty_is_named_with_the_remedy():
    with pytest.raises(DataError, match=r"none of the 1 of group 'a'.*clients_per_domain"):
        hold_out(toy(1), 0.3, 0)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_shares_that_cannot_work_are_refused(share):
    with pytest.raises(ConfigError, match="share = "):
        hold_out(toy(5), share, 0)
