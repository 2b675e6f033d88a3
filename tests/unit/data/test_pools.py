import numpy as np
import pytest

from secfpp.data.glyphs import rasterise, signatures
from secfpp.data.pools import (
    SAME_DRAWING,
    downstream_designers,
    downstream_pool,
    pool_digest,
    pretraining_pool,
    split_by_designer,
    split_by_drawing,
)
from secfpp.errors import ConfigError
from secfpp.seeding import Seed


def glyphs_of(part):
    return {glyph for drawings in part.values() for drawing in drawings for glyph in drawing}


def test_every_concept_has_three_independent_drawings():
    assert len(downstream_pool()) >= 80
    assert all(len(drawings) >= 3 for drawings in downstream_pool().values())


def test_no_glyph_draws_two_concepts():
    glyphs = [g for drawings in downstream_pool().values() for d in drawings for g in d]
    assert len(glyphs) == len(set(glyphs))


def test_near_duplicates_share_a_drawing_and_concepts_never_look_alike():
    rows = [(c, i, g) for c, drawings in downstream_pool().items() for i, d in enumerate(drawings) for g in d]
    unit = signatures(rasterise(g for _, _, g in rows))
    place = np.array([hash((c, i)) for c, i, _ in rows])
    apart = place[:, None] != place[None]
    assert (unit @ unit.T)[apart].max() <= SAME_DRAWING + 1e-6


@pytest.mark.slow
def test_the_pools_never_meet():
    glyphs, masks = pretraining_pool()
    held = glyphs_of(downstream_pool())
    assert len(glyphs) > 10_000 and not held & set(glyphs)
    assert (signatures(masks) @ signatures(rasterise(sorted(held))).T).max() <= SAME_DRAWING


def test_a_hundred_seeds_stay_inside_the_pool_and_share_no_drawing():
    pool = {frozenset(d): concept for concept, drawings in downstream_pool().items() for d in drawings}
    seen = set()
    for seed in range(100):
        split = split_by_drawing(Seed(seed))
        parts = (split.train, split.validation, split.test)
        for part in parts:
            assert all(pool[frozenset(d)] == concept for concept, drawings in part.items() for d in drawings)
            assert all(part[concept] for concept in downstream_pool())
        used = [d for part in parts for drawings in part.values() for d in drawings]
        assert len(used) == len(set(used)) == len(pool)
        seen.add(tuple(sorted(map(str, glyphs_of(split.test)))))
    assert len(seen) == 100


@pytest.mark.parametrize("designer", ["ph", "ri"])
def test_a_held_out_designer_draws_the_whole_test_part_and_nothing_else(designer):
    split = split_by_designer(designer, Seed(1))
    assert {g.designer for g in glyphs_of(split.test)} == {designer}
    assert designer not in {g.designer for g in glyphs_of(split.train) | glyphs_of(split.validation)}
    assert len(split.test) >= 40
    assert set(split.test) == set(split.train) == set(split.validation)


def test_an_unknown_designer_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="ei, msc, ph, ri"):
        split_by_designer("nobody", Seed(0))
    assert downstream_designers() == ("ei", "msc", "ph", "ri")


def test_digest_is_the_one_the_embedded_model_was_kept_away_from():
    import json
    from importlib.resources import files

    facts = json.loads(files("secfpp.models").joinpath("assets", "mini_clip", "pretraining.json").read_text())
    assert facts["downstream_pool_sha256"] == pool_digest()
