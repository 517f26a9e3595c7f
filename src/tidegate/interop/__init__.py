"""Models in and out: Keras, PyTorch and ONNX, each conversion proven by numbers."""
