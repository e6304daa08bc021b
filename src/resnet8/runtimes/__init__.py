"""The runtimes: each opens one kind of model file and turns images into class probabilities."""

from resnet8.runtimes.base import Predictor, identify, open_model

__all__ = ["Predictor", "identify", "open_model"]
