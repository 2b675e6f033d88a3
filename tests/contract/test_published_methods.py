"""What is particular to methods written from papers: their losses, what they average, and what they reduce to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from secfpp.algorithms.base import cross_entropy
from secfpp.algorithms.fedpgp import contrast, template_features
from secfpp.algorithms.fedtpg import Generator, name_features
from secfpp.algorithms.ifca_prompt import IFCAPrompt
from secfpp.algorithms.training import ClientContext, LocalTraining
from secfpp.algorithms.visual import ClassMeans
from secfpp.data.federated import FederatedDataset
from secfpp.errors import ConfigError, ReplyError
from secfpp.models.backbone import Backbone
from secfpp.models.prompt import SoftPrompt
from secfpp.protocol import wire
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import Ask, ClientState, Replies
from secfpp.protocol.transcript import Transcript
from secfpp.runtime.contexts import make_contexts
from secfpp.runtime.trainer import RunResult, train
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.means.secure_mean import SecureMean
from support.method_runs import LEARNING, make

PUBLISHED = ["fedprox", "fedpgp", "fedtpg", "ifca_prompt"]
STEP = LocalTraining(steps=1, batch=8, optimizer="sgd", momentum=0.0, lr=0.5)


def run(dataset: FederatedDataset, backbone: Backbone, algorithm: Any, rounds: int = 3, **options: Any) -> RunResult:
    return train(dataset, backbone, algorithm, method=algorithm.name, seed=0, rounds=rounds, **options)


def begun(
    algorithm: Any, dataset: FederatedDataset, backbone: Backbone
) -> tuple[Sequence[ClientContext], list[ClientState]]:
    contexts = list(make_contexts(dataset, backbone, algorithm, 0).values())
    return contexts, [algorithm.client_state(context) for context in contexts]


def gradient(algorithm: Any, contexts: Sequence[ClientContext], states: Sequence[ClientState], at: Tensor) -> Tensor:
    """The gradient by the shared prompt of the objective on the clients' first eight images, [k, n_ctx, text_dim]."""
    prompts = at.clone().requires_grad_()
    parameters = {s: torch.from_numpy(np.stack([state[s] for state in states])) for s in algorithm.learned}
    features, labels = (torch.stack([getattr(c, name)[:8] for c in contexts]) for name in ("features", "labels"))
    losses = algorithm.objective(contexts, states)({**parameters, "prompt": prompts}, features, labels)
    return torch.autograd.grad(losses.sum(), prompts)[0]


@pytest.mark.parametrize(
    ("name", "settings"),
    [("fedprox", {"mu": 0.0}), ("fedpgp", {"mu": 0.0, "rank": 0}), ("ifca_prompt", {"k": 1})],
)
def test_without_what_is_particular_it_is_promptfl_bit_for_bit(
    name: str, settings: dict[str, Any], dataset: FederatedDataset, backbone: Backbone
) -> None:
    reduced, plain = (run(dataset, backbone, algorithm) for algorithm in (make(name, **settings), make("promptfl")))
    np.testing.assert_array_equal(reduced.prompts, plain.prompts)
    losses = [[row["loss"] for row in result.rows] for result in (reduced, plain)]
    assert losses[0] == losses[1]
    whole = run(dataset, backbone, make(name))
    assert not np.array_equal(whole.prompts, plain.prompts)


@pytest.mark.parametrize("name", LEARNING)
def test_a_round_begins_with_a_new_optimiser(name: str, dataset: FederatedDataset, backbone: Backbone) -> None:
    training = LocalTraining(steps=2, batch=8, optimizer="sgd", momentum=0.9, lr=0.1)
    algorithm, fresh = (make(name, training=training) for _ in range(2))
    contexts, states = begun(algorithm, dataset, backbone)
    algorithm.local_update(contexts[4:], states[4:], 1)
    algorithm.local_update(contexts[:4], states[:4], 1)
    for used, new in zip(
        algorithm.local_update(contexts[:4], states[:4], 2),
        fresh.local_update(contexts[:4], states[:4], 2),
        strict=True,
    ):
        assert all(np.array_equal(array, new[slot]) for slot, array in used.arrays.items())


@pytest.mark.parametrize("name", LEARNING)
def test_test_images_choose_nothing(name: str, dataset: FederatedDataset, backbone: Backbone) -> None:
    turned = {d: replace(split, labels=split.labels[::-1].copy()) for d, split in dataset.test.items()}
    one, other = (run(data, backbone, make(name)) for data in (dataset, replace(dataset, test=turned)))
    assert np.array_equal(one.prompts, other.prompts) and one.rows == other.rows
    assert not np.array_equal(one.metrics["own"], other.metrics["own"])


@pytest.mark.parametrize("name", PUBLISHED)
def test_class_means_and_prior_stand_beside_it(name: str, dataset: FederatedDataset, backbone: Backbone) -> None:
    plain, beside, bare = (
        run(dataset, backbone, make(name, **settings))
        for settings in ({}, {"class_means": ClassMeans(levels="own")}, {"class_prior": False})
    )
    assert np.array_equal(plain.prompts, beside.prompts) and np.array_equal(plain.prompts, bare.prompts)
    assert plain.visual_weights is None and beside.visual_weights is not None
    assert np.array_equal(bare.metrics["own"], plain.metrics["own_no_prior"]) and bare.log_priors is None


@pytest.mark.parametrize("name", PUBLISHED)
def test_on_shares_no_prompt_and_no_update_is_sent_in_the_clear(
    name: str, dataset: FederatedDataset, backbone: Backbone
) -> None:
    transcript = Transcript(keep_contents=True)
    run(dataset, backbone, make(name, aggregator=SecureMean()), transcript=transcript)
    sent = [(key.partition(".")[0], array.dtype) for m in transcript for key, array in wire.decode(m.content).items()]
    names = {key for key, _ in sent}
    assert "envelopes" in names and not names & {"update", "total", "prompt", "generator", "left", "right"}
    assert {dtype for key, dtype in sent if key == "base"} <= {np.dtype(np.uint8)}  # sealed, for those who lack it


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("fate", ["before", "after"])
def test_a_round_on_shares_survives_a_dropout_at_any_step(
    name: str, fate: str, dataset: FederatedDataset, backbone: Backbone
) -> None:
    algorithm, seen = make(name, aggregator=SecureMean()), []
    run(dataset, backbone, algorithm, rounds=2, dropouts=lambda r, step, client: seen.append((r, step)))
    for at in sorted(set(seen)):

        def lose_one(round_: int, step: str, client: str, at: tuple[int, str] = at) -> Any:
            return fate if (round_, step) == at and client == "pixel-2" else None

        result = run(dataset, backbone, algorithm, dropouts=lose_one)
        assert np.isfinite(result.prompts).all()
        if name in ("fedprox", "fedtpg"):  # whatever was missed is caught up with by the last round
            assert all(np.array_equal(result.prompts[0], prompt) for prompt in result.prompts), at


@pytest.mark.parametrize(
    ("name", "settings", "key"),
    [
        ("fedprox", {"mu": -0.1}, "mu = -0.1"),
        ("fedpgp", {"mu": float("nan")}, "mu = nan"),
        ("fedpgp", {"tau": 0.0}, r"tau = 0\.0"),
        ("fedpgp", {"rank": 5}, "rank = 5.*0 to 4"),
        ("fedpgp", {"std": 0.0}, "std"),
        ("fedtpg", {"width": 30}, "width, heads"),
        ("ifca_prompt", {"k": 0}, "k = 0"),
        ("ifca_prompt", {"std": -1.0}, "std"),
    ],
)
def test_settings_that_cannot_work_are_refused(name: str, settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        make(name, **settings)


class TestFedProx:
    def test_the_gradient_has_mu_times_the_way_from_the_common_base(
        self, dataset: FederatedDataset, backbone: Backbone
    ) -> None:
        held, free = make("fedprox", mu=0.7), make("promptfl")
        contexts, states = begun(held, dataset, backbone)
        moved = states[3]["prompt.base"] + np.float32(0.01)
        states[3] = states[3].replace(**{"prompt.base": moved})
        bases = torch.from_numpy(np.stack([state["prompt.base"] for state in states]))
        at = bases + 0.1 * torch.randn(bases.shape, generator=torch.Generator().manual_seed(0))
        apart = gradient(held, contexts, states, at) - gradient(free, contexts, states, at)
        torch.testing.assert_close(apart, 0.7 * (at - bases), atol=1e-4, rtol=1e-3)

    def test_steps_stay_nearer_to_the_base(self, dataset: FederatedDataset, backbone: Backbone) -> None:
        lengths = []
        for mu in (0.0, 1.0, 10.0):
            algorithm = make("fedprox", mu=mu, training=replace(STEP, steps=20, lr=0.05))
            contexts, states = begun(algorithm, dataset, backbone)
            trained = algorithm.local_update(contexts, states, 1)
            lengths.append([np.linalg.norm(state["prompt"] - state["prompt.base"]) for state in trained])
        free, held, tight = np.array(lengths)
        assert (free > held).all() and (held > tight).all()


class TestFedPGP:
    def test_the_contrast_is_cross_entropy_with_the_written_prompt_as_the_right_one(self) -> None:
        draw = torch.Generator().manual_seed(0)
        written, shared, personal = (F.normalize(torch.randn(3, 5, 8, generator=draw), dim=-1) for _ in range(3))
        pairs = [
            F.cosine_similarity(a, b, dim=-1) for a, b in ((written[0].expand_as(shared), shared), (shared, personal))
        ]
        logits = torch.stack(pairs, dim=-1) / 0.5  # [k, n_cls, 2]
        expected = F.cross_entropy(logits.flatten(0, 1), torch.zeros(15, dtype=torch.long), reduction="none")
        torch.testing.assert_close(contrast(written[0], shared, personal, 0.5), expected.view(3, 5).mean(1))

    def test_its_gradient_is_there_and_pulls_the_shared_prompt_to_the_written_one(
        self, dataset: FederatedDataset, backbone: Backbone
    ) -> None:
        with_it, without = make("fedpgp", mu=1.0), make("fedpgp", mu=0.0)
        contexts, states = begun(with_it, dataset, backbone)
        start = torch.from_numpy(np.stack([state["prompt"] for state in states]))
        at = start + 0.05 * torch.randn(start.shape, generator=torch.Generator().manual_seed(0))
        pull = gradient(with_it, contexts, states, at) - gradient(without, contexts, states, at)
        assert (pull.flatten(1).norm(dim=1) > 1e-3).all()
        written = template_features(contexts[0])
        before, after = (
            (written * backbone.class_features(prompts, contexts[0].tokens)).sum(-1).mean(-1)
            for prompts in (at, at - 0.01 * pull / pull.flatten(1).norm(dim=1)[:, None, None])
        )
        assert (after > before).all()

    @pytest.mark.parametrize("prompt", [SoftPrompt(), SoftPrompt(start="random"), SoftPrompt(n_ctx=7)])
    def test_the_anchor_is_the_hand_written_prompt_whatever_the_start(
        self, prompt: SoftPrompt, dataset: FederatedDataset, backbone: Backbone
    ) -> None:
        contexts, _ = begun(make("fedpgp", prompt=prompt), dataset, backbone)
        words = backbone.embed("an icon symbol for")
        tokens = backbone.class_tokens(dataset.classes, len(words))
        expected = backbone.class_features(words[None], tokens)[0]
        torch.testing.assert_close(template_features(contexts[0]), expected)
        filler = backbone.embed("x x x x")
        assert (template_features(contexts[0]) * backbone.class_features(filler[None], tokens)[0]).sum(-1).mean() < 0.99

    def test_the_shared_part_is_common_and_factors_are_each_ones_own(
        self, dataset: FederatedDataset, backbone: Backbone
    ) -> None:
        algorithm = make("fedpgp", training=LocalTraining(steps=5, batch=16), rank=2)
        contexts, states = begun(algorithm, dataset, backbone)
        assert states[0]["left"].shape == (4, 2) and states[0]["right"].shape == (2, 128)
        assert len({state["left"].tobytes() for state in states}) == len(states)
        trained = algorithm.local_update(contexts, states, 1)
        for old, new in zip(states, trained, strict=True):
            assert all(np.abs(new[slot] - old[slot]).max() > 1e-4 for slot in algorithm.learned)
        result = run(dataset, backbone, algorithm)
        away = result.prompts - result.prompts.mean(0)
        assert len({prompt.tobytes() for prompt in result.prompts}) == 8
        assert np.linalg.matrix_rank(result.prompts[0] - result.prompts[1], tol=1e-4) <= 4
        assert np.abs(away).max() > 1e-3

    def test_no_factors_means_one_prompt_which_the_contrast_still_moves(
        self, dataset: FederatedDataset, backbone: Backbone
    ) -> None:
        held, free = (run(dataset, backbone, make("fedpgp", rank=0, mu=mu)) for mu in (1.0, 0.0))
        assert all(np.array_equal(held.prompts[0], prompt) for prompt in held.prompts)
        assert not np.allclose(held.prompts, free.prompts, atol=1e-4)


class TestFedTPG:
    def weights(self, generator: Generator, k: int) -> Tensor:
        whole = torch.randn(k, generator.size, generator=torch.Generator().manual_seed(1))
        return 0.2 * whole

    def test_a_fresh_generator_leaves_the_start_prompt(self, dataset: FederatedDataset, backbone: Backbone) -> None:
        algorithm = make("fedtpg")
        contexts, states = begun(algorithm, dataset, backbone)
        assert np.array_equal(algorithm.personal_prompt(states[0]), contexts[0].start)
        assert len({state["generator"].tobytes() for state in states}) == 1
        assert states[0]["generator"].shape == (8_592,)

    def test_attention_is_that_of_torch(self) -> None:
        generator = Generator(4, 12, 10, 8, 2)
        (weights,) = self.weights(generator, 1)
        names = F.normalize(torch.randn(7, 10, generator=torch.Generator().manual_seed(2)), dim=-1)
        sizes = [a * b for a, b in generator.shapes.values()]
        p = {n: c.view(s) for c, (n, s) in zip(weights.split(sizes), generator.shapes.items(), strict=True)}
        attention = torch.nn.MultiheadAttention(8, 2, bias=False, kdim=10, vdim=10, batch_first=True)
        with torch.no_grad():
            attention.q_proj_weight.copy_(torch.eye(8))
            attention.k_proj_weight.copy_(p["key"].T)
            attention.v_proj_weight.copy_(p["value"].T)
            attention.out_proj.weight.copy_(p["mix"].T)
            seen = torch.nn.LayerNorm(10, elementwise_affine=False)(names)[None]
            found = attention(p["queries"][None], seen, seen)[0]
            hidden = torch.nn.LayerNorm(8, elementwise_affine=False)(found) @ p["up"] + p["up_bias"]
            expected = (found + F.gelu(hidden) @ p["down"] + p["down_bias"]) @ p["out"]
        torch.testing.assert_close(generator(weights[None], names), expected)

    def test_generators_side_by_side_are_each_alone(self) -> None:
        generator = Generator(4, 12, 10, 8, 2)
        weights, names = self.weights(generator, 5), torch.randn(7, 10, generator=torch.Generator().manual_seed(2))
        together = generator(weights, names)
        assert together.shape == (5, 4, 12)
        for i in range(5):
            torch.testing.assert_close(generator(weights[i : i + 1], names)[0], together[i])

    def test_names_count_and_their_order_does_not(self, backbone: Backbone) -> None:
        generator = Generator(4, 128, 128, 32, 4)
        weights = self.weights(generator, 1)
        names = torch.from_numpy(name_features(backbone, ["star", "heart", "a lamp"]))
        prompt, turned, other = (generator(weights, n) for n in (names, names.flip(0), names[:2]))
        torch.testing.assert_close(prompt, turned)
        assert (prompt - other).abs().max() > 1e-2

    def test_all_clients_count_alike_and_end_with_one_prompt(
        self, dataset: FederatedDataset, backbone: Backbone
    ) -> None:
        transcript = Transcript(keep_contents=True)
        result = run(dataset, backbone, make("fedtpg"), transcript=transcript)
        shared = [wire.decode(m.content) for m in transcript if m.step == "aggregator.share" and m.direction == "down"]
        assert len(shared) == 24 and {int(message["weight"]) for message in shared} == {1}
        assert len({len(client.train) for client in dataset.clients}) > 1
        assert all(np.array_equal(result.prompts[0], prompt) for prompt in result.prompts)


class TestIFCA:
    def test_starts_differ_around_the_start_prompt(self, dataset: FederatedDataset, backbone: Backbone) -> None:
        algorithm = make("ifca_prompt", k=3)
        contexts, states = begun(algorithm, dataset, backbone)
        starts = np.stack([states[0][slot] for slot in algorithm.slots])
        assert len({start.tobytes() for start in starts}) == 3
        np.testing.assert_allclose(starts.mean(0), contexts[0].start, atol=1e-6)
        assert all(np.array_equal(states[0][slot], states[5][slot]) for slot in algorithm.slots)

    def test_a_client_takes_the_prompt_of_least_loss_on_all_its_training_images(
        self, dataset: FederatedDataset, backbone: Backbone
    ) -> None:
        algorithm = make("ifca_prompt", k=3, std=0.2)
        contexts, states = begun(algorithm, dataset, backbone)
        chosen = [int(state["choice"]) for state, _ in algorithm.choose_many(contexts, states, [{}] * 8)]
        for context, state, choice in zip(contexts, states, chosen, strict=True):
            losses = [
                cross_entropy(
                    [context], torch.from_numpy(state[slot])[None], context.features[None], context.labels[None]
                )
                for slot in algorithm.slots
            ]
            assert choice == int(torch.stack(losses).argmin())
            assert algorithm.choose(context, state, {})[1] == {"choice": choice}
        assert len(set(chosen)) > 1

    def test_only_the_chosen_prompt_is_trained_and_averaged(
        self, dataset: FederatedDataset, backbone: Backbone
    ) -> None:
        algorithm = make("ifca_prompt", k=3, std=0.2)
        contexts, states = begun(algorithm, dataset, backbone)
        states = [state for state, _ in algorithm.choose_many(contexts, states, [{}] * 8)]
        for old, new in zip(states, algorithm.local_update(contexts, states, 1), strict=True):
            moved = [not np.array_equal(old[slot], new[slot]) for slot in algorithm.slots]
            assert [i for i, value in enumerate(moved) if value] == [int(old["choice"])]
        result = run(dataset, backbone, algorithm)
        assert result.assignment is not None and 1 < len(set(result.assignment)) <= 3
        for i, a in enumerate(result.assignment):
            for j, b in enumerate(result.assignment):
                assert np.array_equal(result.prompts[i], result.prompts[j]) == (a == b)

    def test_who_chose_what_is_told_in_every_round(self, dataset: FederatedDataset, backbone: Backbone) -> None:
        transcript = Transcript(keep_contents=True)
        run(dataset, backbone, make("ifca_prompt"), transcript=transcript)
        told = [m for m in transcript if m.step == "method.choose" and m.direction == "up"]
        assert {m.round for m in told} == {1, 2, 3} and len(told) == 24
        assert all(set(wire.decode(m.content)) == {"choice"} for m in told)

    def test_everybody_holds_every_prompt_when_choosing(
        self, dataset: FederatedDataset, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        held: list[list[bytes]] = []
        many = IFCAPrompt.choose_many

        def watched(self: IFCAPrompt, contexts: Any, states: Any, payloads: Any) -> Any:
            held.append([b"".join(state[f"{slot}.base"].tobytes() for slot in self.slots) for state in states])
            return many(self, contexts, states, payloads)

        monkeypatch.setattr(IFCAPrompt.choose, "__secfpp_many__", watched)
        run(dataset, backbone, make("ifca_prompt", k=3, std=0.2))
        assert len(held) == 3 and all(len(bases) == 8 and len(set(bases)) == 1 for bases in held)
        assert len({bases[0] for bases in held}) == 3

    @pytest.mark.parametrize("answer", [{"choice": np.array(3)}, {"choice": np.array(-1)}, {}])
    def test_a_choice_of_no_prompt_is_refused(self, answer: dict[str, np.ndarray]) -> None:
        algorithm = make("ifca_prompt", k=3, aggregator=PlainMean())
        refused: list[str] = []
        program: Iterator[Any] = algorithm.join(
            algorithm.server_state(), Cohort({"a": 1, "b": 1}, 1, 0), frozenset("ab")
        )
        request = next(program)
        while not isinstance(request, Ask):
            empty = {label: Replies({}) for label in request.asks}
            request = program.send(Replies({}, joint=empty))
        replies = Replies({"a": {"choice": np.array(2)}, "b": answer}, refuse=lambda client, _: refused.append(client))
        with pytest.raises(StopIteration) as stop:
            program.send(replies)
        assert stop.value.value.chosen == {"a": 2} and refused == ["b"]
        with pytest.raises(ReplyError):
            algorithm._choice_in("b", answer)
