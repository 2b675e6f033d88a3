from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from secfpp.experiment.results.summary import (
    client_prompts,
    costs_lines,
    differences,
    metrics_lines,
    prompt_files,
    summarize,
)
from secfpp.models.prompt_file import load_prompt
from support_experiment import FakeSpec, fake_result


def test_summary_of_one_seed_has_means_worst_and_no_interval() -> None:
    summary = summarize(
        "icons", "mini", 4, [fake_result("grouped", own=60), fake_result("pooled", own=55, clustered=False)]
    )
    assert {key: summary[key] for key in ("dataset", "backbone", "seeds", "rounds")} == {
        "dataset": "icons", "backbone": "mini", "seeds": [0], "rounds": 4,
    }  # fmt: skip
    grouped = summary["methods"]["grouped"]
    assert grouped["own"] == {"mean": pytest.approx(60), "ci95": None, "per_seed": [pytest.approx(60)], "worst": 58}
    assert set(grouped) >= {"own", "own_domain", "other_domains", "own_no_prior", "own_domain_no_prior"}
    assert grouped["clusters"] == {
        "k": 2, "ari": 1.0, "purity": 1.0, "judged": 1, "sizes": [[3, 3]], "decisions": ["2 groups used"],
    }  # fmt: skip
    assert grouped["bytes"] == {"client_up": 41_000, "client_down": 52_000}
    assert summary["methods"]["pooled"]["clusters"] is None
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_intervals_are_over_seeds_never_over_clients() -> None:
    runs = [fake_result(seed=seed, own=own) for seed, own in ((1, 60.0), (2, 62.0), (3, 64.0))]
    own = summarize("icons", "mini", 4, runs)["methods"]["grouped"]["own"]
    assert own["mean"] == pytest.approx(62)
    assert own["worst"] == pytest.approx(60)  # the lowest client of each seed, then the mean
    assert own["ci95"] == [pytest.approx(62 - 4.968, abs=1e-3), pytest.approx(62 + 4.968, abs=1e-3)]


def test_differences_are_paired_by_seed() -> None:
    # the seeds differ by ten points, the methods by exactly one: pairing must see that
    runs = [fake_result(m, s, own) for m, gain in (("a", 0), ("b", 1)) for s, own in ((1, 50 + gain), (2, 60 + gain))]
    entry = next(e for e in differences(runs) if e["metric"] == "own")
    assert (entry["method"], entry["against"]) == ("b", "a")
    assert entry["mean"] == pytest.approx(1)
    assert entry["ci95"] == [pytest.approx(1), pytest.approx(1)]
    assert entry["seeds"] == [1, 2]


def test_differences_have_one_sided_bounds_for_non_inferiority() -> None:
    runs = [
        fake_result(m, s, own) for m, owns in (("a", (50, 50, 50)), ("b", (51, 52, 53))) for s, own in enumerate(owns)
    ]
    entry = next(e for e in differences(runs) if e["metric"] == "own")
    assert entry["lower95"] == pytest.approx(2 - 2.9200 / 3**0.5, abs=1e-3)  # t(0.95, 2) = 2.92
    assert entry["upper95"] == pytest.approx(2 + 2.9200 / 3**0.5, abs=1e-3)
    assert entry["p"] == pytest.approx(ttest_1samp([1.0, 2.0, 3.0], 0).pvalue)
    assert entry["detectable"] == pytest.approx(3.264, abs=1e-3)  # times their spread, 1
    alone = differences([fake_result("a", 1), fake_result("b", 1)])
    untold = ("ci95", "lower95", "upper95", "p", "detectable")
    assert {tuple(e[name] for name in untold) for e in alone} == {(None,) * 5}


def test_differences_use_shared_seeds_and_skip_strangers() -> None:
    runs = [fake_result("a", 1), fake_result("a", 2), fake_result("b", 2), fake_result("c", 9)]
    found = {(e["method"], e["against"]): e for e in differences(runs) if e["metric"] == "own"}
    assert set(found) == {("b", "a")}
    assert found["b", "a"]["seeds"] == [2]
    assert found["b", "a"]["ci95"] is None


def test_clusters_over_seeds_are_averaged() -> None:
    one = fake_result(seed=1)
    two = dataclasses.replace(fake_result(seed=2), assignment=(0,) * 6)
    clusters = summarize("icons", "mini", 4, [one, two])["methods"]["grouped"]["clusters"]
    assert clusters["k"] == 1.5 and clusters["sizes"] == [[3, 3], [6]]
    assert (clusters["ari"], clusters["purity"], clusters["judged"]) == (1.0, 1.0, 1)  # one group is no grouping
    assert clusters["decisions"] == ["2 groups used", "one group used"]


def test_clients_in_no_cluster_do_not_count_as_one() -> None:
    result = dataclasses.replace(fake_result(), assignment=(0, 0, -1, 1, 1, 1))
    clusters = summarize("icons", "mini", 4, [result])["methods"]["grouped"]["clusters"]
    assert (clusters["k"], clusters["ari"], clusters["sizes"]) == (2, 1.0, [[2, 3]])


def test_domains_that_cannot_judge_clusters_leave_the_indices_out() -> None:
    each_its_own = fake_result(domains=tuple("abcdef"), per_domain=1)
    result = dataclasses.replace(each_its_own, assignment=(0, 0, 1, 1, 1, 1))
    nothing = {"k": 2, "ari": None, "purity": None, "judged": 0, "sizes": [[2, 4]], "decisions": ["2 groups used"]}
    assert summarize("x", "mini", 4, [result])["methods"]["grouped"]["clusters"] == nothing
    one = dataclasses.replace(fake_result(domains=("a",), per_domain=6), assignment=(0, 0, 1, 1, 1, 1))
    assert summarize("x", "mini", 4, [one])["methods"]["grouped"]["clusters"] == nothing
    both = summarize("x", "mini", 4, [result, fake_result(seed=1)])["methods"]["grouped"]["clusters"]
    assert (both["ari"], both["purity"]) == (1, 1)  # of the seed that can be judged


def test_a_metric_that_means_nothing_here_is_left_out() -> None:
    result = fake_result()
    nothing = np.full(6, np.nan)
    alone = dataclasses.replace(result, metrics={**result.metrics, "other_domains": nothing})
    methods = summarize("icons", "mini", 4, [alone, fake_result("pooled")])["methods"]
    assert "other_domains" not in methods["grouped"]
    assert "other_domains" in methods["pooled"]
    some = dataclasses.replace(result, metrics={"own": np.array([np.nan, 50, 50, 60, 60, 60])})
    assert summarize("icons", "mini", 4, [some])["methods"]["grouped"]["own"]["mean"] == 56


def test_metrics_lines_are_one_per_client_and_round() -> None:
    rows = [json.loads(line) for line in metrics_lines([fake_result("a", 5)]).splitlines()]
    assert len(rows) == 6 * 4
    assert rows[0] == {"method": "a", "seed": 5, "round": 1, "client": "clipart-0", "loss": 1.5, "own": 57.0}


def test_what_json_cannot_say_becomes_null() -> None:
    result = dataclasses.replace(fake_result(), rows=({"round": 0, "loss": float("nan"), "more": [float("inf"), 1.0]},))
    row = json.loads(metrics_lines([result]))
    assert row["loss"] is None
    assert row["more"] == [None, 1.0]


def test_costs_lines_have_bytes_per_client() -> None:
    (row,) = [json.loads(line) for line in costs_lines([fake_result()]).splitlines()]
    assert row["bytes_up"]["clipart-0"] == 41_000
    assert row["seconds_by_component"] == {"training": 1.5}
    assert row["exchanges"] == 40


def test_prompts_can_be_read_back_with_whose_they_are(tmp_path: Path) -> None:
    log_priors = np.log(np.tile(np.float32([0.75, 0.25]), (6, 1)))
    result = dataclasses.replace(
        fake_result("a+b"), clients=("../x y/1", *fake_result().clients[1:]), log_priors=log_priors
    )
    files = dict(prompt_files(result, FakeSpec(), ("cat", "dog"), 48))
    assert len(files) == 6
    name, content = next(iter(files.items()))
    assert name == "prompts/a+b/0/%2E%2E%2Fx y%2F1.safetensors"
    (tmp_path / "p").write_bytes(content)
    prompt = load_prompt(tmp_path / "p")
    np.testing.assert_array_equal(prompt.prompt, result.prompts[0])
    np.testing.assert_array_equal(prompt.log_prior, log_priors[0])
    assert (prompt.client, prompt.domain, prompt.method, prompt.rounds) == ("../x y/1", "clipart", "a+b", 4)
    assert (prompt.classes, prompt.backbone, prompt.backbone_digest) == (("cat", "dog"), "mini", "abc123")
    assert prompt.image_size == 48


def test_prompts_of_a_method_on_two_levels_hold_both_and_how_they_are_used() -> None:
    whole = fake_result()
    familiar = np.arange(12).reshape(6, 2) % 3 == 0
    domain = whole.prompts + 1
    prompts = client_prompts(
        dataclasses.replace(whole, domain_prompts=domain, familiar=familiar, trust=0.7), FakeSpec(), ("cat", "dog")
    )
    for i, prompt in enumerate(prompts.values()):
        np.testing.assert_array_equal(prompt.prompt, whole.prompts[i])
        np.testing.assert_array_equal(prompt.domain_prompt, domain[i])
        np.testing.assert_array_equal(prompt.familiar, familiar[i])
        assert prompt.trust == 0.7
    one = client_prompts(dataclasses.replace(whole, trust=0.7), FakeSpec(), ("cat", "dog"))
    assert all((p.domain_prompt, p.familiar, p.trust) == (None, None, 1) for p in one.values())


def test_a_method_without_prior_leaves_none_in_the_file() -> None:
    prompts = client_prompts(fake_result(), FakeSpec(), ("cat", "dog"))
    assert list(prompts) == list(fake_result().clients)
    assert all(prompt.log_prior is None for prompt in prompts.values())
