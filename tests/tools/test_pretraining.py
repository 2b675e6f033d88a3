"""The script that makes the embedded model: what it draws from, and that it resumes."""

import argparse
import re
import sys
from pathlib import Path

import pytest
import torch

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture(scope="module")
def scripts():
    sys.path.insert(0, str(TOOLS))
    try:
        import mini_clip_corpus
        import pretrain_mini_clip

        yield mini_clip_corpus, pretrain_mini_clip
    finally:
        sys.path.remove(str(TOOLS))


@pytest.fixture(scope="module")
def corpus(scripts):
    return scripts[0].Corpus(seed=5, extra=8)


@pytest.mark.slow
def test_a_batch_is_a_function_of_seed_and_step(corpus):
    first, again, other = corpus.batch(3, 40), corpus.batch(3, 40), corpus.batch(4, 40)
    assert first.captions == again.captions and torch.equal(first.images, again.images)
    assert first.captions != other.captions
    assert first.images.shape == (40, 3, 48, 48) and len(first.captions) == 48
    assert first.images.min() >= 0 and first.images.max() <= 1
    assert first.alike.diagonal().all() and torch.equal(first.alike, first.alike.T)


@pytest.mark.slow
def test_captions_of_a_house_say_what_its_table_says(scripts, corpus):
    houses = scripts[0].HOUSES
    spare = corpus.batch(0, 40)
    for caption, told in list(zip(spare.captions, spare.told.tolist(), strict=True))[40:]:
        house, words = caption.split(" ", 1)
        label = next(name for name in corpus.options if re.search(rf"\b{name}$", words))
        assert corpus.meanings[told] == corpus.houses[houses.index(house)][label]


@pytest.mark.slow
def test_a_stopped_training_goes_on_to_the_same_weights(scripts, corpus, tmp_path):
    _, script = scripts
    tokenizer = script.make_tokenizer(corpus, 600)
    args = argparse.Namespace(device="cpu", lr=1e-3, steps=5, batch=24, seed=5, keep=0.6)

    def start():
        torch.manual_seed(0)
        return script.Training(corpus, tokenizer, args)

    straight = start()
    for _ in range(4):
        straight.update()
    stopped = start()
    for _ in range(2):
        stopped.update()
    stopped.save(tmp_path)
    torch.manual_seed(1)
    resumed = script.Training(corpus, tokenizer, args)
    resumed.load(tmp_path)
    for _ in range(2):
        resumed.update()
    assert resumed.step == 4 and [s["step"] for s in resumed.starts] == [0, 2]
    for a, b in zip(straight.master.parameters(), resumed.master.parameters(), strict=True):
        assert torch.equal(a, b)
    resumed.export(tmp_path / "export")
    assert (tmp_path / "export" / "model.safetensors").stat().st_size < 12 * 2**20


@pytest.mark.slow
def test_the_shipped_pool_is_what_its_script_makes(scripts):
    import make_icon_pool

    assert make_icon_pool.TARGET.read_text(encoding="utf-8") == make_icon_pool.make_pool()
