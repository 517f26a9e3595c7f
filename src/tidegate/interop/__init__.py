"""Models in and out: Keras, PyTorch, ONNX, and a page; each conversion proven by numbers.

from tidegate.interop import ImportOptions, export_model, import_model

imported = import_model("sentiment.keras", "words.txt", ImportOptions(labels=["bad", "good"]))
imported.save("sentiment.safetensors")
export_model(TextClassifier.load("sentiment.safetensors"), "sentiment.onnx", "onnx")
"""

from tidegate.interop.exporting import Exported, export_model
from tidegate.interop.html_export import export_html
from tidegate.interop.importing import Imported, ImportOptions, import_model

__all__ = [
    "Exported",
    "ImportOptions",
    "Imported",
    "export_html",
    "export_model",
    "import_model",
]
