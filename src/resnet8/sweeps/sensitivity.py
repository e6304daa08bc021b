"""Where bits matter: few bits in one layer alone, and in all layers but one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resnet8 import environment, results
from resnet8.errors import QuantizationError
from resnet8.facts import DEFAULT_PER_CLASS, DEFAULT_SEED
from resnet8.quantization.scheme import Scheme
from resnet8.results import LayerSensitivity, Sensitivity
from resnet8.sweeps.cells import Cell, measure_all
from resnet8.sweeps.ground import prepare, test_images
from resnet8.sweeps.places import place
from resnet8.workers import no_progress

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from resnet8.workers import Progress

FEW = (2, 4)


def sensitivity(
    model: Path,
    data_dir: Path,
    cells: Path,
    *,
    bits: Sequence[int] = FEW,
    scheme: Scheme = Scheme(),  # noqa: B008 - frozen
    seed: int = DEFAULT_SEED,
    samples_per_class: int = DEFAULT_PER_CLASS,
    max_samples: int | None = None,
    jobs: int | None = None,
    scheduler: str | None = None,
    progress: Progress = no_progress,
) -> Sensitivity:
    """What few bits of weights cost in each layer: in it alone, and in all but it; evaluated in exact integers.

    Weights that have no few bits have 16, so fine that nothing of them is seen; activations are those of ``scheme``.

    Args:
        model: The float ONNX file.
        data_dir: Folder of CIFAR-10.
        cells: Folder where finished cells are kept; what is there already is not computed anew.
        bits: Of the weights, 2 to 8.
        scheme: All other settings.
        seed: Of the calibration draw.
        samples_per_class: Calibration images of each class.
        max_samples: Evaluate only the first so many test images.
        jobs: Cells at once on this machine; one for each CPU when left out.
        scheduler: Address of a Dask scheduler, to compute on its workers instead.
        progress: Called with the cells that are finished.

    Raises:
        Resnet8Error: as :func:`resnet8.sweep`.

    Example:
        >>> model, cells = Path("models/resnet8.onnx"), Path("cells")
        >>> found = resnet8.sensitivity(model, data, cells, bits=[2], max_samples=20, samples_per_class=20)
        >>> len(found.layers), found.layers[0].layer
        (10, 'conv2d_1/BiasAdd')
    """
    bits = tuple(sorted(set(bits)))
    if not bits:
        raise QuantizationError("there are no bits to ask about", found="none", expected="one number or more")
    with place(jobs, scheduler) as where:
        material = prepare(model, data_dir, [seed], samples_per_class, lambda *_: test_images(data_dir, max_samples))
        layers = material.layers

        def coarse(some: set[str], width: int) -> Cell:
            """The weights of ``some`` with ``width`` bits, all others fine."""
            chosen = tuple((name, width) for name in layers if name in some)
            fine = tuple(name for name in layers if name not in some)
            return Cell(replace(scheme, edge_bits=None, layer_bits=chosen, float_layers=fine), seed)

        pairs = [(name, width) for name in layers for width in bits]
        every = set(layers)
        alone = [coarse({name}, width) for name, width in pairs]
        spared = [coarse(every - {name}, width) for name, width in pairs]
        whole = [coarse(every, width) for width in bits]
        asked = list(dict.fromkeys([coarse(set(), bits[0]), *whole, *alone, *spared]))
        found = dict(zip(asked, measure_all(material, asked, where, cells, progress), strict=True))
    weights = {layer.name: layer.weights.codes.size for layer in material.network.weighted}
    return Sensitivity(
        ground=material.ground(scheme, "weight_bits", "edge_bits", "layer_bits", "float_layers"),
        seed=seed,
        fine=found[coarse(set(), bits[0])],
        coarse={width: found[one] for width, one in zip(bits, whole, strict=True)},
        layers=tuple(
            LayerSensitivity(name, weights[name], width, found[one], found[other])
            for (name, width), one, other in zip(pairs, alone, spared, strict=True)
        ),
        environment=environment.current(),
        created=results.now(),
    )
