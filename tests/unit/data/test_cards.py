import gzip
import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor, ImageDraw

from secfpp.data import cards
from secfpp.data.cards import RANKS, SUITS, CardSettings, load_cards, read_deck
from secfpp.data.catalog import datasets
from secfpp.errors import ConfigError, DataError, MissingExtraError

SMALL = CardSettings(shots=4, validation_shots=2, test_shots=2, clients_per_domain=2, decks=("plain", "zipped"))


def deck(rows=5, ranks=13):
    """An SVG of cards 20 x 30: red tells the rank, green the suit; the fifth row is left out."""
    cells = [
        f'<rect x="{20 * rank + 1}" y="{30 * suit + 1}" width="18" height="28" '
        f'fill="#{12 * rank:02x}{45 * suit:02x}a0"/>'
        for suit in range(4)
        for rank in range(ranks)
    ]
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{20 * ranks}" height="{30 * rows}">{"".join(cells)}</svg>'


def draw_rectangles(file, width):
    """What `cards.rasterise` does, for drawings of rectangles."""
    content = Path(file).read_bytes()
    text = (gzip.decompress(content) if file.suffix == ".svgz" else content).decode()
    size = [int(re.search(rf'<svg[^>]* {side}="(\d+)"', text)[1]) for side in ("width", "height")]
    image = Image.new("RGBA", size)
    for x, y, w, h, fill in re.findall(r'<rect x="(\d+)" y="(\d+)" width="(\d+)" height="(\d+)" fill="(#\w+)"', text):
        box = (int(x), int(y), int(x) + int(w) - 1, int(y) + int(h) - 1)
        ImageDraw.Draw(image).rectangle(box, fill=ImageColor.getrgb(fill))
    return np.asarray(image.resize((width, round(width * size[1] / size[0])), Image.Resampling.NEAREST))


@pytest.fixture
def root(monkeypatch, tmp_path):
    (tmp_path / "plain.svg").write_text(deck())
    (tmp_path / "zipped.svgz").write_bytes(gzip.compress(deck().encode()))
    monkeypatch.setattr(cards, "rasterise", draw_rectangles)
    return tmp_path


def rank_and_suit(image):
    red, green, blue = image[20:28, 20:28].mean((0, 1))
    return round(red / blue * 160 / 12), round(green / blue * 160 / 45)


def test_ranks_of_decks_with_suits_kept_apart(root):
    data = load_cards(replace(SMALL, root=str(root)), 0)
    assert data.classes == RANKS and data.domains == ("plain", "zipped") and len(data.clients) == 4
    splits = [("test", split) for split in data.test.values()]
    splits += [(part, getattr(client, part)) for client in data.clients for part in ("train", "validation")]
    seen = {(part, rank): set() for part in ("train", "validation", "test") for rank in range(13)}
    for part, split in splits:
        for image, label in zip(split.images, split.labels, strict=True):
            rank, suit = rank_and_suit(image)
            assert rank == label
            seen[part, rank].add(suit)
    for rank in range(13):  # in both decks together
        sides = [seen[part, rank] for part in ("train", "validation", "test")]
        assert [len(side) for side in sides] == [2, 1, 1] and set.union(*sides) == {0, 1, 2, 3}
    assert data.facts == {"cards per rank and deck": {"train": 2, "validation": 1, "test": 1}}


def test_suits_of_decks_with_ranks_kept_apart(root):
    settings = replace(SMALL, root=str(root), label="suit", shots=14, validation_shots=6, test_shots=6)
    data = load_cards(settings, 0)
    assert data.classes == SUITS and data.test["plain"].histogram(4).tolist() == [6] * 4
    splits = [("test", split) for split in data.test.values()]
    splits += [(part, getattr(client, part)) for client in data.clients for part in ("train", "validation")]
    seen = {(part, suit): set() for part in ("train", "validation", "test") for suit in range(4)}
    for part, split in splits:
        for image, label in zip(split.images, split.labels, strict=True):
            rank, suit = rank_and_suit(image)
            assert suit == label
            seen[part, suit].add(rank)
    for suit in range(4):
        sides = [seen[part, suit] for part in ("train", "validation", "test")]
        assert [len(side) for side in sides] == [7, 3, 3] and set.union(*sides) == set(range(13))
    assert data.facts == {"cards per suit and deck": {"train": 7, "validation": 3, "test": 3}}


def test_pictures_of_a_card_differ_and_repeat_with_the_seed(root):
    data, again = (load_cards(replace(SMALL, root=str(root)), 0) for _ in range(2))
    images = data.test["plain"].images
    assert images.shape == (26, 48, 48, 3) and len({image.tobytes() for image in images}) == 26
    assert np.array_equal(images, again.test["plain"].images)
    assert not np.array_equal(images, load_cards(replace(SMALL, root=str(root)), 1).test["plain"].images)


def test_permuted_names_differ_between_decks(root):
    data = load_cards(replace(SMALL, root=str(root), label_shift=1.0), 0)
    assert (data.test["plain"].labels != data.test["zipped"].labels).mean() == 12 / 13


def test_decks_that_are_not_there_are_told_with_the_remedy(root, tmp_path):
    with pytest.raises(DataError, match="apt install gnome-cards-data"):
        load_cards(replace(SMALL, root=str(tmp_path / "nowhere")), 0)
    with pytest.raises(DataError, match=r"no deck 'lost'; data\.decks can name plain, zipped"):
        load_cards(replace(SMALL, root=str(root), decks=("plain", "lost")), 0)


@pytest.mark.parametrize("rows", [4, 9])
def test_another_layout_is_refused(root, rows):
    (root / "odd.svg").write_text(deck(rows, 13))
    with pytest.raises(DataError, match=r"odd\.svg: not five rows of thirteen cards"):
        read_deck(root / "odd.svg")


def test_a_missing_package_is_told_with_the_command(monkeypatch, tmp_path):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(cards.importlib, "import_module", missing)
    (tmp_path / "plain.svg").write_text(deck())
    with pytest.raises(MissingExtraError, match=r"pip install 'secfpp\[cards\]'"):
        read_deck(tmp_path / "plain.svg")


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match=r"data\.decks") as caught:
        CardSettings(decks=("tango", "tango"), shots=0, label="colour")
    assert len(caught.value.problems) == 3
    assert datasets()["cards"].settings is CardSettings


@pytest.mark.slow
@pytest.mark.skipif(find_spec("resvg_py") is None, reason="needs secfpp[cards]")
def test_real_drawings_are_drawn_and_broken_ones_named(tmp_path):
    (tmp_path / "plain.svg").write_text(deck())
    (tmp_path / "zipped.svgz").write_bytes(gzip.compress(deck().encode()))
    data = load_cards(replace(SMALL, root=str(tmp_path)), 0)
    test = data.test["zipped"]
    assert [rank_and_suit(image)[0] for image in test.images] == test.labels.tolist()
    (tmp_path / "broken.svg").write_text("<svg")
    with pytest.raises(DataError, match=r"broken\.svg: cannot be drawn"):
        read_deck(tmp_path / "broken.svg")


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("resvg_py") is None or not Path(CardSettings().root).is_dir(), reason="needs secfpp[cards] and the decks"
)
def test_the_installed_decks_fit_the_defaults():
    data = load_cards(CardSettings(label_shift=1.0), 0)
    assert len(data.clients) == 30 and len(data.domains) == 6
