"""How a float network's tensors are put on grids: the settings of this package's own quantization."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from resnet8.errors import QuantizationError
from resnet8.numeric.grid import of_width
from resnet8.quantization.equalization import Equalization
from resnet8.quantization.observers import Observer

if TYPE_CHECKING:
    from collections.abc import Collection

BITS = range(2, 9)

FINE_BITS = 16

WeightObserver = Literal["minmax", "mse"]
WeightRounding = Literal["nearest", "reconstruct"]


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """How a float network's tensors are put on grids.

    Attributes:
        weight_bits: Of the weights, 2 to 8.
        activation_bits: Of the activations, 2 to 8; images and logits have 8 always.
        edge_bits: Of the weights of the first and the last weighted layer, and at least so many of what the last one
            reads; none: as the others.
        layer_bits: Of the weights of single layers, by name, over the above.
        float_layers: Layers whose weights stay as fine as 16 bits; for simulation only.
        per_channel: Whether each output channel of weights has a scale of its own.
        weights_signed: Whether codes of eight bits are signed. Unsigned ones, the same codes around 128, saturate in no
            kernel for x86 CPUs without VNNI; fewer bits are signed always, as sums of two products of them fit int16.
        activations_signed: Whether codes of activations are.
        equalization: How channels are scaled across layers first (:mod:`resnet8.quantization.equalization`).
        observer: What chooses the ranges of activations.
        weight_observer: What chooses those of weights.
        mirrored: Whether each calibration image is shown mirrored too: twice the work, and steadier statistics.
        bias_correction: Whether biases make up for the mean error of each channel.
        rounding: How weights become codes: each to its nearest, or so that the layer computes what it should
            (:mod:`resnet8.quantization.reconstruction`), in which case the scales are found with them.
        asymmetric_weights: Whether reconstructed weights of fewer than eight bits have, channel by channel, the better
            one of two zero points: 0, or -1, by which their codes reach one further up than down (2 bits: -1 to 2). A
            QOperator file has no place for it.

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
    equalization: Equalization = "none"
    observer: Observer = "mse"
    weight_observer: WeightObserver = "mse"
    mirrored: bool = False
    bias_correction: bool = True
    rounding: WeightRounding = "nearest"
    asymmetric_weights: bool = False

    def __post_init__(self) -> None:
        bits = {"weight bits": self.weight_bits, "activation bits": self.activation_bits}
        if self.edge_bits is not None:
            bits["bits of the first and last layer"] = self.edge_bits
        bits |= {f"bits of the layer {name}": value for name, value in self.layer_bits}
        for what, value in bits.items():
            _require(what, value, tuple(BITS), f"{BITS[0]} to {BITS[-1]}")
        _require("observer", self.observer, get_args(Observer))
        _require("observer of weights", self.weight_observer, get_args(WeightObserver))
        _require("equalization", self.equalization, get_args(Equalization))
        _require("rounding of weights", self.rounding, get_args(WeightRounding))
        if self.asymmetric_weights and self.rounding != "reconstruct":
            _require("asymmetric weights", f"rounding = {self.rounding}", (), "rounding = reconstruct, which chooses")

    def require_layers(self, names: Collection[str]) -> None:
        """Check that the layers it names are among ``names``.

        Raises:
            QuantizationError: for the first that is not.
        """
        for name in (*(name for name, _ in self.layer_bits), *self.float_layers):
            _require("bits of the layer", name, tuple(names))

    @property
    def fewest_bits(self) -> int:
        """Of any weights."""
        return min(self.weight_bits, self.edge_bits or 8, *(bits for _, bits in self.layer_bits), 8)

    @property
    def weights(self) -> str:
        """The data type of most weights."""
        return "uint8" if self.weight_bits == 8 and not self.weights_signed else of_width("int8", self.weight_bits)

    @property
    def observed(self) -> tuple[Equalization, bool]:
        """What decides what is observed of the float network: equalization, and whether images are mirrored."""
        return self.equalization, self.mirrored

    def settings(self) -> dict[str, str | bool | int]:
        """All of it, as records have it."""
        named = asdict(self)
        for several in ("layer_bits", "float_layers"):
            del named[several]
        if not self.asymmetric_weights:
            del named["asymmetric_weights"]
        bits = ", ".join(f"{name}: {bits}" for name, bits in self.layer_bits)
        return {name: value for name, value in named.items() if value is not None} | (
            {"layer_bits": bits} if bits else {}
        )

    def bits_of(self, layer: str, *, edge: bool) -> int:
        """The bits of a layer's weights; ``edge``: whether it is the first or the last weighted layer."""
        if layer in self.float_layers:
            return FINE_BITS
        given = dict(self.layer_bits)
        return given.get(layer) or (self.edge_bits if edge and self.edge_bits else self.weight_bits)

    def zeros(self, bits: int) -> tuple[int, ...]:
        """The zero points that reconstructed weights of so many bits may have."""
        return (0, -1) if self.asymmetric_weights and bits < BITS[-1] else (0,)

    def activation_dtype(self, *, logits: bool = False, last: bool = False) -> str:
        """The data type of an activation that a layer writes; of the logits, or of what the last layer reads."""
        bits = 8 if logits else max(self.activation_bits, self.edge_bits or 0) if last else self.activation_bits
        return of_width("int8" if self.activations_signed else "uint8", bits)


def _require(what: str, value: Any, allowed: tuple[Any, ...], expected: str | None = None) -> None:
    if value not in allowed:
        raise QuantizationError(
            f"a scheme cannot have this: {what}",
            found=str(value),
            expected=expected or ", ".join(allowed),
            remedy="choose one of these",
        )
