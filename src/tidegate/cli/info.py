"""``tidegate info``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tidegate.cli import files, options, terminal

if TYPE_CHECKING:
    from tidegate.estimator import TextClassifier


def info(model: options.Model, as_json: options.Json = False) -> None:
    """Print what a model file holds and how it was trained.

    \b
    Example:
      tidegate info model.safetensors
      tidegate info model.safetensors --json
    """
    # Imported late: help and errors in the options must not wait for NumPy.
    from tidegate import storage
    from tidegate.estimator import TextClassifier

    tensors, header, size, sha256 = storage.read_stored(model)
    classifier = TextClassifier.from_tensors(tensors, header, model)
    facts = {
        "model": str(model),
        "bytes": size,
        "sha256": sha256,
        "tidegate": header.get("tidegate"),
        "precision": header.get("precision"),
        "quantization": header.get("quantization"),
        "conversion": header.get("conversion"),
        "config": header["config"],
        "parameters": sum(array.size for array in classifier.model_.parameters.values()),
        "tokenizer": header["tokenizer"],
        "words": len(classifier.tokenizer_.vocabulary.words),
        "classes": header["classes"],
        "training": header["training"],
        "history": header["history"],
        "ngrams": header.get("ngrams"),
        "calibration": header.get("calibration"),
        "thresholds": header.get("thresholds"),
    }
    if as_json:
        terminal.write(terminal.json_text(facts) + "\n")
    else:
        for name, value in _lines(classifier, facts):
            terminal.write(f"{name:<12}{terminal.printable(value)}\n")


def _lines(classifier: TextClassifier, facts: dict[str, Any]) -> list[tuple[str, str]]:
    config = classifier.model_.config
    padding = "padding left out" if config.masked else "padding read"
    cell = f"gru, reset {config.reset}" if config.cell == "gru" else config.cell
    labels = [terminal.label_text(label) for label in facts["classes"]]
    shown = ", ".join(map(terminal.field, labels[:20]))
    several = "; a text may have several" if config.targets == "many" else ""
    tuned = []
    if facts["calibration"]:
        tuned.append(("calibrated", f"logits are multiplied by {facts['calibration']:.4f}"))
    if facts["thresholds"]:
        said = labels if several else labels[1:]
        values = [
            f"{name} from {at:.4f} on" for name, at in zip(said, facts["thresholds"], strict=True)
        ]
        tuned.append(("thresholds", ", ".join(map(terminal.field, values[:20]))))
    quantized = []
    if facts["quantization"]:
        quantized.append(
            (
                "quantised",
                f"{facts['quantization']}, after the epochs below; computed in "
                f"{facts['precision']}",
            )
        )
    layers = "" if config.layers == 1 else f", {config.layers} layers"
    ways = ", both directions" if config.bidirectional else ""
    pooling = "" if config.pooling == "last" else f", pooling {config.pooling}"
    kept = {
        **{"end": "the last", "start": "the first", "both": "the first and last"},
        "windows": "windows of",
    }
    beside = []
    if classifier.ngrams_ is not None:
        from tidegate.ngrams import decides_alone

        network, linear = classifier.mix_
        alone = "; they decide alone, the network counts nothing"
        beside.append(
            (
                "n-grams",
                f"up to {classifier.ngrams_.longest} tokens, {len(classifier.ngrams_.weights):,} "
                f"buckets; logits times {linear:.3f}, the network's times {network:.3f}"
                + (alone if decides_alone(classifier.mix_) else ""),
            )
        )
    converted = []
    if facts["conversion"]:
        source, most = (facts["conversion"].get(key) for key in ("from", "largest_difference"))
        converted.append(("imported", f"from {source}, logits differ by at most {most:.2g}"))
    lines = [
        ("model", files.describe(facts["model"], facts["bytes"], facts["sha256"])),
        ("tidegate", f"{facts['tidegate']}, {facts['precision']}"),
        *quantized,
        *converted,
        (
            "cell",
            f"{cell}{layers}{ways}, {config.hidden_size} units, embedding of "
            f"{config.embedding_size}{pooling}",
        ),
        *beside,
        ("parameters", f"{facts['parameters']:,}"),
        (
            "tokens",
            f"{facts['tokenizer']}, {kept[classifier.tokenizer_.keep]} {config.max_length} of a "
            f"text, {padding}",
        ),
        ("vocabulary", f"{facts['words']:,} words"),
        ("classes", f"{len(labels)}: {shown}{', ...' if len(labels) > 20 else ''}{several}"),
        *tuned,
        (
            "training",
            f"{len(facts['history'])} epochs, batches of {classifier.batch_size}, learning rate "
            f"{classifier.learning_rate}, clip norm {classifier.clip_norm or 'none'}, "
            f"validation {classifier.validation_fraction}, seed {classifier.random_state}",
        ),
    ]
    for epoch in facts["history"]:
        figures = [f"{key} {value:.4f}" for key, value in epoch.items() if isinstance(value, float)]
        lines.append((f"epoch {epoch['epoch']}", "  ".join(figures)))
    return lines
