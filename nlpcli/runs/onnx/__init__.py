"""Models as ONNX graphs: what is exported, the folder it is written to, and running it with onnxruntime."""
