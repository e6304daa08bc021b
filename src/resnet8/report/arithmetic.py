"""The integer arithmetic in words and formulas: worked examples, for the terminal and for Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resnet8.results import GridRange, WorkedExample

_TERMS = 6


def grid(one: GridRange) -> str:
    """``int8, s 0.0421, z -128``; with ``a … b`` where each channel has its own."""
    low, high = one.scales
    scale = f"{low:.6g}" if one.channels is None or low == high else f"{low:.3g} … {high:.3g}"
    return f"{one.dtype}, s {scale}, z {span(one.zero_points)}"


def span(ends: tuple[float, float], form: str = "") -> str:
    """``a … b``, or one number where they are the same."""
    return " … ".join(f"{end:{form}}" for end in dict.fromkeys(ends))


def steps(example: WorkedExample) -> list[str]:
    """The lines that lead from the input codes to the output code."""
    return [
        f"{example.layer} ({example.operator}), output {_at(example.at)}",
        *(_sum(example) if example.accumulator is None else _accumulation(example)),
        f"code  = round({example.before_rounding:.6f}) + ({example.zero_point}) = {example.code}"
        + ("" if example.code == example.code_fixed else f"   (fixed point: {example.code_fixed})"),
    ]


def _accumulation(example: WorkedExample) -> list[str]:
    shown = example.terms[:_TERMS]
    words = [f"({term.a})" + (f"·({term.b})" if term.b is not None else "") for term in shown]
    more = f" + … ({len(example.terms):,} terms)" if len(example.terms) > _TERMS else ""
    bias = f" + bias ({example.bias:,})" if example.bias is not None else ""
    (real,), (fixed,) = example.multipliers, example.fixed_multipliers
    return [
        f"acc   = {' + '.join(words)}{more}{bias} = {example.accumulator:,}",
        f"M     = {real:.9g} ≈ {fixed:,} · 2^-{example.shift}",
        f"M·acc = {example.before_rounding:.6f}",
    ]


def _sum(example: WorkedExample) -> list[str]:
    (a, b), (m_a, m_b), (f_a, f_b) = example.terms, example.multipliers, example.fixed_multipliers
    return [
        f"a - z_a = {a.a}, b - z_b = {b.a}",
        f"M_a   = {m_a:.9g} ≈ {f_a:,} · 2^-{example.shift},  M_b = {m_b:.9g} ≈ {f_b:,} · 2^-{example.shift}",
        f"M_a·({a.a}) + M_b·({b.a}) = {example.before_rounding:.6f}",
    ]


def _at(index: tuple[int, ...]) -> str:
    names = ("row", "column", "channel") if len(index) == 3 else ("feature",)
    return ", ".join(f"{name} {i}" for name, i in zip(names, index, strict=True))
