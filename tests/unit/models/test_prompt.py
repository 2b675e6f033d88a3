from types import SimpleNamespace

import numpy as np
import pytest

from secfpp.errors import ConfigError
from secfpp.models.prompt import SoftPrompt, template_text
from secfpp.seeding import Seed

BACKBONE = SimpleNamespace(
    spec=SimpleNamespace(text_dim=8), initial_prompt=lambda text, n: np.full((n, 8), len(text), np.float32)
)


def test_a_template_start_uses_the_words_before_the_name():
    prompt = SoftPrompt(n_ctx=3).initial(BACKBONE, "a photo of a {}.", Seed(0))
    assert prompt.shape == (3, 8) and (prompt == len("a photo of a")).all()
    own = SoftPrompt(n_ctx=2, start="an x-ray of").initial(BACKBONE, "ignored {}", Seed(0))
    assert (own == len("an x-ray of")).all()


def test_a_random_start_is_seeded_and_has_the_asked_spread():
    draw = SoftPrompt(n_ctx=500, start="random", std=0.05).initial
    first = draw(BACKBONE, "", Seed(1))
    assert first.dtype == np.float32 and first.std() == pytest.approx(0.05, rel=0.05)
    assert np.array_equal(first, draw(BACKBONE, "", Seed(1)))
    assert not np.array_equal(first, draw(BACKBONE, "", Seed(2)))


@pytest.mark.parametrize("template", ["a photo", "{}", "{} texture", "a {} in the wild"])
def test_a_template_that_does_not_end_in_the_name_is_refused(template):
    with pytest.raises(ConfigError, match="then the class name"):
        template_text(template)


def test_bad_settings_are_named():
    with pytest.raises(ConfigError) as caught:
        SoftPrompt(n_ctx=0, start=" ", std=0)
    assert [p.key for p in caught.value.problems] == ["prompt.n_ctx", "prompt.std", "prompt.start"]
