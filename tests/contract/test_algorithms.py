"""What every method must do, run on every method there is."""

from dataclasses import replace

import numpy as np
import pytest

from secfpp.algorithms.secfpp import SecFPP
from secfpp.algorithms.training import LocalTraining
from secfpp.algorithms.visual import ClassMeans
from secfpp.data.federated import Split
from secfpp.errors import ClientError, ConfigError, DataError
from secfpp.models.prompt import SoftPrompt
from secfpp.protocol import wire
from secfpp.protocol.cohort import Assignment
from secfpp.protocol.program import resolve
from secfpp.protocol.transcript import Transcript
from secfpp.runtime.contexts import make_contexts
from secfpp.runtime.trainer import train
from secfpp.secure.clustering.clusterer import Clusterer, OneCluster, OracleClusters, RandomClusters
from secfpp.secure.clustering.plain_agreement import PlainAgreement
from secfpp.secure.means.secure_mean import SecureMean
from support.method_runs import ALL, LEARNING, TRAINED, make, shifted


def run(dataset, backbone, name, rounds=2, seed=0, algorithm=None, **options):
    return train(dataset, backbone, algorithm or make(name), method=name, seed=seed, rounds=rounds, **options)


@pytest.mark.parametrize("name", ALL)
def test_results_are_complete_and_repeatable(name, dataset, backbone):
    first, again = (run(dataset, backbone, name) for _ in range(2))
    assert np.array_equal(first.prompts, again.prompts)
    assert first.clients == tuple(sorted(c.name for c in dataset.clients))
    assert first.prompts.shape[0] == 8 and first.prompts.dtype == np.float32
    assert set(first.metrics) >= {"own", "own_domain", "other_domains", "own_no_prior"}
    for values in first.metrics.values():
        assert values.shape == (8,) and (values >= 0).all() and (values <= 100).all()
    assert first.rounds == make(name).planned(2) and len(first.rows) == 8 * first.rounds
    other = run(dataset, backbone, name, seed=1)
    assert np.array_equal(first.prompts, other.prompts) == (name not in LEARNING and name != "random_prompt")


@pytest.mark.parametrize("name", ALL)
def test_forced_wire_changes_no_bit_and_no_cost(name, dataset, backbone):
    wired, direct = (run(dataset, backbone, name, force_wire=force) for force in (True, False))
    assert np.array_equal(wired.prompts, direct.prompts)
    assert wired.costs.up == direct.costs.up and wired.costs.down == direct.costs.down
    assert wired.costs.exchanges == direct.costs.exchanges


@pytest.mark.parametrize("name", LEARNING)
def test_training_moves_prompts_and_lowers_the_loss(name, dataset, backbone):
    algorithm = make(name, training=LocalTraining(steps=5, batch=32))
    result = run(dataset, backbone, name, rounds=6, algorithm=algorithm)
    loss = {r: np.mean([row["loss"] for row in result.rows if row["round"] == r]) for r in (1, 6)}
    assert loss[6] < loss[1]
    start = algorithm.prompt.initial(backbone, dataset.template, None)
    assert np.abs(result.prompts - start).max() > 1e-3


@pytest.mark.parametrize("name", LEARNING)
def test_a_client_is_blind_to_the_clients_it_is_batched_with(name, dataset, backbone):
    algorithm = make(name)
    contexts = list(make_contexts(dataset, backbone, algorithm, 0).values())
    states = [algorithm.client_state(context) for context in contexts]
    train_step = resolve(algorithm, "method.train")
    payload = {"round": np.array(1)}
    together = [s for s, _ in train_step.many(contexts, states, [payload] * len(contexts))]
    noise = np.random.default_rng(0)
    strangers = [
        replace(c, data=replace(c.data, train=Split(noise.integers(0, 255, (9, 48, 48, 3), np.uint8), np.arange(9))))
        for c in contexts
    ]
    for i in (0, 5):
        alone, reply = train_step.one(contexts[i], states[i], payload)
        among = [contexts[j] if j == i else strangers[j] for j in range(len(contexts))]
        mixed = [s for s, _ in train_step.many(among, states, [payload] * len(contexts))][i]
        assert reply == {}
        for slot in ("prompt", "domain_prompt", "local", "left", "right", "generator"):
            if slot in alone:
                assert np.allclose(alone[slot], together[i][slot], atol=2e-5)
                assert np.allclose(mixed[slot], together[i][slot], atol=2e-5)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("fate", ["before", "after"])
def test_a_round_survives_a_dropout_at_any_step(name, fate, dataset, backbone):
    seen = []
    run(dataset, backbone, name, dropouts=lambda r, step, client: seen.append((r, step)))
    for at in sorted(set(seen)):

        def lose_one(round_, step, client, at=at):
            return fate if (round_, step) == at and client == "pixel-2" else None

        result = run(dataset, backbone, name, rounds=3, dropouts=lose_one)
        assert np.isfinite(result.prompts).all()
        if name == "promptfl":  # whatever was missed is caught up with by the last round
            assert all(np.array_equal(result.prompts[0], prompt) for prompt in result.prompts)


@pytest.mark.parametrize("name", TRAINED)
def test_nothing_private_is_sent(name, dataset, backbone):
    transcript = Transcript(keep_contents=True)
    run(dataset, backbone, name, transcript=transcript)
    sent = {key.partition(".")[0] for message in transcript for key in wire.decode(message.content)}
    assert not sent & {"loss", "local", "left", "right", "labels", "histogram", "prompt", "domain_prompt", "generator"}
    assert not sent & {"everybody_sums", "group_sums", "holds", "bits", "gain"}
    if name in ("secfpp", "class_means"):
        assert not sent & {"update", "total", "descriptor"}  # sealed, all of it
    keys = {
        "session",
        "about",
        "offers",
        "offer",
        "commitments",
        "commitment",
        "nonces",
        "nonce",
        "attempt",
        "coin",
        "coins",
    }
    keys |= {"draw", "digest"}  # the number of a drawing, and the hash of a base
    keys |= {"project", "check"}  # what is drawn for proofs
    keys |= {"holder_offers"}
    sealed = {"envelopes", "sizes", "envelope", "proofs", "body", "bodies"}
    sealed |= {"echoes", "holders", "clients", "inclusion", "members"}
    masked = {"exchange", "opened", "responders", "masked", "checks", "answers"}
    allowed = (
        keys
        | sealed
        | masked
        | {
            "round",
            "slot",
            "seed",
            "weight",
            "update",
            "version",
            "total",
            "base_version",
            "send_base",
            "descriptor",
            "choice",
            "classes",
            "held",
            "dimensions",
            "spread",
        }
    )
    if name == "ifca_prompt":  # in the clear a prompt is handed on to those who did not choose it
        allowed |= {"base"}
    assert sent <= allowed


def test_a_changed_partition_keeps_what_was_learned(dataset, backbone):
    class Alternating(Clusterer):
        def assign(self, cohort, slot, previous):
            yield from ()
            parity = cohort.round % 2
            return Assignment.from_labels(cohort.clients, [(i + parity * (i // 4)) % 2 for i in range(len(cohort))])

    settings = {"cluster_every": 1, "descriptor": "features", "class_means": ClassMeans(), "local_lr": 0.0}
    algorithm = make("secfpp", clusterer=Alternating(), **settings)
    result = run(dataset, backbone, "secfpp", rounds=4, algorithm=algorithm)
    loss = {r: np.mean([row["loss"] for row in result.rows if row["round"] == r]) for r in (1, 4)}
    assert loss[4] < loss[1]
    for i, a in enumerate(result.assignment):
        for j, b in enumerate(result.assignment):
            assert np.array_equal(result.prompts[i], result.prompts[j]) == (a == b)


def test_the_published_variant_groups_by_prompts_every_round(dataset, backbone):
    steps = []
    result = run(dataset, backbone, "secfpp_paper", rounds=3, dropouts=lambda r, step, c: steps.append((r, step)))
    assert {r for r, step in steps if step == "clusterer.describe"} == {1, 2, 3}
    change = result.descriptors
    assert change.shape == (8, result.prompts[0].size) and np.abs(change).max() > 0.01
    ours = run(dataset, backbone, "secfpp", rounds=3, dropouts=lambda r, step, c: steps.append((-r, step)))
    assert {r for r, step in steps if r < 0 and step == "clusterer.deal"} == {-1}
    assert ours.descriptors.shape == (8, len(dataset.classes) * SecFPP().directions)


def test_promptfl_gives_everybody_the_mean(dataset, backbone):
    prompts = run(dataset, backbone, "promptfl").prompts
    assert all(np.array_equal(prompts[0], other) for other in prompts)


def test_coop_local_sends_nothing_up_but_acknowledgements(dataset, backbone):
    costs = run(dataset, backbone, "coop_local").costs
    assert max(costs.up.values()) < 100


@pytest.mark.parametrize("clusterer", [OneCluster(), RandomClusters(k=2), OracleClusters(), PlainAgreement(k_max=3)])
def test_secfpp_shares_inside_clusters_only(clusterer, dataset, backbone):
    algorithm = make("secfpp", clusterer=clusterer, proof=False, local_lr=0.0)
    result = run(shifted(dataset), backbone, "secfpp", algorithm=algorithm)
    assert result.assignment is not None
    for i, a in enumerate(result.assignment):
        for j, b in enumerate(result.assignment):
            assert np.array_equal(result.prompts[i], result.prompts[j]) == (a == b)
    if clusterer.kind in ("oracle", "plain_agreement"):
        assert len(set(zip(result.assignment, result.domains, strict=True))) == 2


def test_secfpp_personal_prompts_differ_by_a_local_part(dataset, backbone):
    result = run(dataset, backbone, "secfpp")
    assert len({prompt.tobytes() for prompt in result.prompts}) == 8


def test_a_client_missing_at_the_clustering_joins_later(dataset, backbone):
    def absent(round_, step, client):
        return "before" if round_ == 1 and client == "sketch-0" else None

    few = {"aggregator": SecureMean(min_responders=3, threshold=1), "clusterer": PlainAgreement(min_cluster_size=3)}
    algorithm = make("secfpp", **few, proof=False, local_lr=0.0, averaged_rounds=1)
    result = run(shifted(dataset), backbone, "secfpp", rounds=4, algorithm=algorithm, dropouts=absent)
    by_client = dict(zip(result.clients, result.prompts, strict=True))
    assert len(set(zip(result.assignment, result.domains, strict=True))) == 2
    assert np.array_equal(by_client["sketch-0"], by_client["sketch-1"])


def test_below_the_minimum_a_cluster_keeps_its_prompt(dataset, backbone):
    def lose(round_, step, client):
        return "before" if round_ == 2 and client == "sketch-0" and step != "aggregator.receive" else None

    algorithm = make("secfpp", clusterer=OracleClusters(), proof=False, averaged_rounds=1, local_lr=0.0)
    once = run(dataset, backbone, "secfpp", rounds=1, algorithm=algorithm)
    twice = run(dataset, backbone, "secfpp", rounds=2, algorithm=algorithm, dropouts=lose)
    for client, domain, before, after in zip(once.clients, once.domains, once.prompts, twice.prompts, strict=True):
        assert np.array_equal(before, after) == (domain == "sketch"), client


def test_bad_settings_and_data_are_refused_before_training(dataset, backbone):
    with pytest.raises(ConfigError, match="rounds = 0"):
        run(dataset, backbone, "promptfl", rounds=0)
    with pytest.raises(ConfigError, match="local_lr"):
        SecFPP(local_lr=-1.0)
    with pytest.raises(ConfigError, match=r"prompt\.n_ctx = 0"):
        SoftPrompt(n_ctx=0)
    with pytest.raises(ConfigError, match=r"training\.lr"):
        LocalTraining(lr=0.0)
    with pytest.raises(ConfigError, match="prior_smoothing"):
        make("coop_local", prior_smoothing=0.0)
    with pytest.raises(ConfigError, match="n_ctx = 30"):
        run(dataset, backbone, "coop_local", algorithm=make("coop_local", prompt=SoftPrompt(n_ctx=30)))
    empty = replace(dataset.clients[0], train=Split(np.zeros((0, 48, 48, 3), np.uint8), np.zeros(0, np.int64)))
    with pytest.raises(DataError, match="sketch-0"):
        run(replace(dataset, clients=(empty,)), backbone, "coop_local")
    with pytest.raises(DataError, match=r"clients 0 and 1 .* have the same name 'sketch-0'"):
        run(replace(dataset, clients=dataset.clients[:1] * 2), backbone, "coop_local")


def test_a_diverged_client_is_named(dataset, backbone):
    algorithm = make("coop_local", training=LocalTraining(steps=3, lr=1e38, optimizer="sgd"))
    with pytest.raises(ClientError, match="not finite"):
        run(dataset, backbone, "coop_local", algorithm=algorithm)


def test_floors_predict_without_training(dataset, backbone):
    floor = run(dataset, backbone, "zero_shot")
    text = backbone.embed("an icon symbol for")
    assert np.allclose(floor.prompts, text.numpy()[-4:])
    assert floor.costs.exchanges == 0 and floor.seconds == 0 and floor.assignment is None
