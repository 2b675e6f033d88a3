import pytest

import secfpp


def test_every_public_name_is_there_and_only_those_are_listed():
    assert dir(secfpp) == sorted(secfpp.__all__)
    assert set(secfpp._MODULE_OF) == set(secfpp.__all__) - {"__version__"}
    for name in secfpp.__all__:
        value = getattr(secfpp, name)
        if name not in ("Program", "__version__"):
            assert value.__doc__ and value.__module__.startswith("secfpp."), name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        secfpp.nothing  # noqa: B018
