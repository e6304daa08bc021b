"""The accuracy map: every combination of the settings that are asked about, each a cell."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from resnet8 import environment, results
from resnet8.data.calibration import held_out
from resnet8.errors import QuantizationError
from resnet8.facts import DEFAULT_PER_CLASS, DEFAULT_SEED
from resnet8.quantization.scheme import BITS, FINE_BITS, Scheme
from resnet8.results import Sweep, SweepCell
from resnet8.sweeps.cells import Cell, measure_all
from resnet8.sweeps.ground import prepare, test_images
from resnet8.sweeps.places import place
from resnet8.workers import no_progress

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from resnet8.data.cifar10 import Split
    from resnet8.quantization.scheme import WeightRounding
    from resnet8.workers import Progress

EVERY = (2, 3, 4, 5, 6, 7, 8)
_CHANGED = ("weight_bits", "activation_bits", "per_channel", "activations_signed", "bias_correction", "rounding")


def sweep(
    model: Path,
    data_dir: Path,
    cells: Path,
    *,
    weights: Sequence[int] = EVERY,
    activations: Sequence[int] = EVERY,
    per_channel: Sequence[bool] = (True,),
    signed: Sequence[bool] = (False,),
    bias_correction: Sequence[bool] = (True,),
    rounding: Sequence[WeightRounding] = ("nearest",),
    seeds: Sequence[int] = (DEFAULT_SEED,),
    scheme: Scheme = Scheme(),  # noqa: B008 - frozen
    samples_per_class: int = DEFAULT_PER_CLASS,
    max_samples: int | None = None,
    held_out_images: int | None = None,
    jobs: int | None = None,
    scheduler: str | None = None,
    progress: Progress = no_progress,
) -> Sweep:
    """Quantize a float model in every combination of these settings, and evaluate each in exact integers.

    A cell's numbers do not depend on where it is computed.

    Args:
        model: The float ONNX file.
        data_dir: Folder of CIFAR-10.
        cells: Folder where finished cells are kept; what is there already is not computed anew.
        weights: Bits of weights, 2 to 8; the first and the last layer have those of ``scheme``. Or 16: weights of all
            layers so fine that nothing of them is seen, as bound of what activations of so few bits allow.
        activations: Bits of activations, 2 to 8.
        per_channel: Whether weights have a scale for each output channel.
        signed: Whether codes of activations are signed.
        bias_correction: Whether biases make up for the mean error.
        rounding: How weights become codes: ``nearest``, ``reconstruct``.
        seeds: Of the calibration draws.
        scheme: All other settings; layers that it gives bits of their own keep them.
        samples_per_class: Calibration images of each class.
        max_samples: Evaluate only the first so many test images.
        held_out_images: Evaluate so many training images that calibrate nothing instead: to choose settings.
        jobs: Cells at once on this machine; one for each CPU when left out.
        scheduler: Address of a Dask scheduler, to compute on its workers instead.
        progress: Called with the cells that are finished.

    Raises:
        QuantizationError: for settings out of range, or a network of another architecture.
        ModelError: when the model is no float ONNX ResNet8.
        DataError: for unusable images.
        WorkerError: when no scheduler is there or it goes away, workers have other versions, or end again and again.
        StorageError: when a finished cell cannot be kept.

    Example:
        >>> model, cells, few = Path("models/resnet8.onnx"), Path("cells"), {"samples_per_class": 20, "jobs": 1}
        >>> found = resnet8.sweep(model, data, cells, weights=[4], activations=[8], max_samples=20, **few)
        >>> [(cell.weight_bits, cell.activation_bits, cell.measured.overall.total) for cell in found.cells]
        [(4, 8, 20)]
    """
    combinations = list(
        product(
            dict.fromkeys(per_channel),
            dict.fromkeys(signed),
            dict.fromkeys(bias_correction),
            dict.fromkeys(rounding),
            product(dict.fromkeys(weights), dict.fromkeys(activations), dict.fromkeys(seeds)),
        )
    )
    if not combinations:
        raise QuantizationError("there is nothing to sweep", found="a setting without a value", expected="one or more")
    schemes = [
        replace(
            scheme,
            weight_bits=BITS[-1] if weight_bits == FINE_BITS else weight_bits,
            activation_bits=activation_bits,
            per_channel=channels,
            activations_signed=sign,
            bias_correction=corrected,
            rounding=rounded,
        )
        for channels, sign, corrected, rounded, (weight_bits, activation_bits, _) in combinations
    ]
    bits = [numbers[0] for *_, numbers in combinations]
    if held_out_images is not None and max_samples is not None:
        raise QuantizationError(
            "held-out images and test images exclude each other",
            found=f"{held_out_images} held-out images, the first {max_samples} test images",
            expected="one of them",
        )

    def ask(train: Split, drawn: tuple[NDArray[np.int64], ...]) -> Split:
        if held_out_images is None:
            return test_images(data_dir, max_samples)
        return held_out(train, np.concatenate(drawn), held_out_images, held_out_images, DEFAULT_SEED)

    with place(jobs, scheduler) as where:
        material = prepare(model, data_dir, seeds, samples_per_class, ask)
        if {name for name, _ in scheme.layer_bits} >= set(material.layers):
            raise QuantizationError(
                "the bits that are asked about change nothing",
                found="a scheme with bits of its own for every layer",
                expected="layers that have none",
                remedy="leave layer_bits out, or take all other settings from another recipe",
            )
        fine = {"edge_bits": None, "layer_bits": (), "float_layers": material.layers}
        asked = [
            Cell(replace(one, **fine) if width == FINE_BITS else one, numbers[2])  # type: ignore[arg-type]
            for one, width, (*_, numbers) in zip(schemes, bits, combinations, strict=True)
        ]
        found = measure_all(material, asked, where, cells, progress)
    return Sweep(
        ground=material.ground(scheme, *_CHANGED),
        cells=tuple(
            SweepCell(
                weight_bits=width,
                activation_bits=cell.scheme.activation_bits,
                per_channel=cell.scheme.per_channel,
                signed=cell.scheme.activations_signed,
                bias_correction=cell.scheme.bias_correction,
                rounding=cell.scheme.rounding,
                seed=cell.seed,
                measured=measured,
            )
            for cell, width, measured in zip(asked, bits, found, strict=True)
        ),
        environment=environment.current(),
        created=results.now(),
    )
