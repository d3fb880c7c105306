"""An exported model that answers: needs onnxruntime, numpy and Pillow alone, never torch."""

from tutelage.runtime.model import Answer, Classifier
from tutelage.runtime.probabilities import softmax

__all__ = ["Answer", "Classifier", "softmax"]
