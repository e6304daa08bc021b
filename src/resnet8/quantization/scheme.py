"""How a float network's tensors are put on grids: the settings of this package's own quantization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from resnet8.errors import QuantizationError

BITS = range(2, 9)

Observer = Literal["minmax", "percentile", "mse"]
WeightObserver = Literal["minmax", "mse"]
WeightRounding = Literal["nearest", "adaround"]


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """How a float network's tensors are put on grids.

    Attributes:
        weight_bits: Of the weights, 2 to 8.
        activation_bits: Of the activations, 2 to 8; images and logits have 8 always.
        edge_bits: Of the weights of the first and the last weighted layer; none: as the others.
        layer_bits: Of the weights of single layers, by name, over the above.
        float_layers: Layers whose weights stay as fine as 16 bits; for simulation only.
        per_channel: Whether each output channel of weights has a scale of its own.
        weights_signed: Whether codes of weights are signed.
        activations_signed: Whether codes of activations are.
        equalize: Whether ranges are equalized across layers first.
        observer: What chooses the ranges of activations.
        weight_observer: What chooses those of weights.
        bias_correction: Whether biases make up for the mean error of each channel.
        rounding: How weights become codes.

    Raises:
        QuantizationError: when a value is out of range or not known.
    """

    weight_bits: int = 8
    activation_bits: int = 8
    edge_bits: int | None = 8
    layer_bits: tuple[tuple[str, int], ...] = ()
    float_layers: tuple[str, ...] = ()
    per_channel: bool = True
    weights_signed: bool = True
    activations_signed: bool = False
    equalize: bool = True
    observer: Observer = "mse"
    weight_observer: WeightObserver = "mse"
    bias_correction: bool = True
    rounding: WeightRounding = "nearest"

    def __post_init__(self) -> None:
        bits = {"weight bits": self.weight_bits, "activation bits": self.activation_bits}
        if self.edge_bits is not None:
            bits["bits of the first and last layer"] = self.edge_bits
        bits |= {f"bits of the layer {name}": value for name, value in self.layer_bits}
        for what, value in bits.items():
            _require(what, value, tuple(BITS), f"{BITS[0]} to {BITS[-1]}")
        _require("observer", self.observer, get_args(Observer))
        _require("observer of weights", self.weight_observer, get_args(WeightObserver))
        _require("rounding of weights", self.rounding, get_args(WeightRounding))


def _require(what: str, value: Any, allowed: tuple[Any, ...], expected: str | None = None) -> None:
    if value not in allowed:
        raise QuantizationError(
            f"a scheme cannot have this: {what}",
            found=str(value),
            expected=expected or ", ".join(allowed),
            remedy="choose one of these",
        )
