import re

from secfpp.experiment.report.holdings_map import holdings_map
from secfpp.experiment.results.holdings import matrix, partition_figures, partition_table
from support_experiment import toy_dataset


def table(*rows, domains=None):
    clients = {
        f"c{i}": {"domain": (domains or "d" * len(rows))[i], "train": list(row), "validation": [1] * len(row)}
        for i, row in enumerate(rows)
    }
    return {"classes": [f"class {i}" for i in range(len(rows[0]))], "clients": clients}


def test_the_table_of_a_data_set_has_every_training_image():
    data = toy_dataset(1)
    held = matrix(partition_table(data))
    assert held.shape == (len(data.clients), len(data.classes))
    assert held.sum() == sum(len(client.train) for client in data.clients)


def test_disjoint_clients_are_far_from_the_mix_and_equal_ones_are_at_it():
    apart = partition_figures(table([4, 0], [0, 4]))
    assert apart == {
        "clients": 2,
        "training images": 8,
        "fewest of a client": 4,
        "most of a client": 4,
        "classes of a client": 1.0,
        "clients of a class": 1.0,
        "skew": 0.5,
    }
    assert partition_figures(table([4, 2], [2, 1]))["skew"] == 0
    assert partition_figures(table([4, 0], [0, 4], domains="de"))["skew"] == 0  # each is its domain's mix


def test_rows_are_clients_by_domain_and_only_what_is_held_is_drawn():
    made = holdings_map(3, table([8, 0, 1], [0, 2, 0], [0, 0, 4], domains="ded"))
    assert made.seed == 3 and list(made.domains) == ["d", "e"]
    drawn = str(made.domains["d"])
    assert 'viewBox="0 0 3 2"' in drawn and "c0, 9 images: class 0 8, class 2 1" in drawn and "c1" not in drawn
    assert re.findall(r'class="(h\d)" d="M(\d)', drawn) == [("h1", "2"), ("h8", "0"), ("h4", "2")]
    assert made.legend == ((1, 1, 1), (2, 2, 2), (4, 4, 4), (8, 8, 8))


def test_many_clients_have_flat_rows_and_names_cannot_break_the_page():
    few, many = (str(holdings_map(0, table(*[[1, 0]] * n)).domains["d"]) for n in (2, 100))
    assert "height:32px" in few and "height:700px" in many
    odd = table([1])
    odd["classes"] = ["<script>"]
    assert "<script>" not in str(holdings_map(0, odd).domains["d"])
