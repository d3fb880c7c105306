"""A trained model as files that others can use: ONNX, weights, model.json, model card."""
