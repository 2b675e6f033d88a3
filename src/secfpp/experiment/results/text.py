"""Numbers as people read them."""

from __future__ import annotations


def points(value: float, signed: bool = False, digits: int = 1) -> str:
    """Percent or percentage points with a true minus sign; what rounds to zero has no sign."""
    text = f"{value:.{digits}f}"
    if not any(digit in text for digit in "123456789"):
        return text.lstrip("-")
    return (f"+{text}" if signed and value > 0 else text).replace("-", "\N{MINUS SIGN}")


def p_value(value: float | None) -> str:
    """A p-value with what digits it needs; none is a dash."""
    if value is None:
        return "\N{EN DASH}"
    return "<0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def counted(number: float, thing: str) -> str:
    """``one group``, ``6 groups``, ``3.5 groups``: how many of a thing whose plural takes an s."""
    return f"one {thing}" if number == 1 else f"{number:g} {thing}s"


def amount(count: float) -> str:
    """A number of bytes for people: ``12.3 KiB``."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def duration(seconds: float) -> str:
    """Seconds for people: ``0.42 s``, ``12.3 s``, ``3 min 05 s``."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"
