"""What the presets are worth on data, and explanations on texts."""

from __future__ import annotations

import statistics

from result_files import Result, Table, between, load_average, made_by, of, spread, table


def deletion(model: str) -> Table:
    """What each method's words are worth when they are left out."""

    @of("faithfulness.json")
    def make(found: Result) -> str:
        rows = []
        for method, each in found["summary"][model]["methods"].items():
            own = method == found["settings"]["default"]
            keys = ("mean", "low", "high")
            more = spread(each["area_below_default"], keys, "{:+.3f}".format)
            rows.append(
                [
                    f"**{method}**" if own else method,
                    *(f"{fall:.2f}" for fall in each["falls"]),
                    spread(each["area"], keys, "{:.3f}".format),
                    "" if own else more,
                    f"{each['changed'][-1]:.1%}",
                    f"{each['all_short']['mean']:.2f}",
                    f"{each['sums']['mean']:.3f}" if "sums" in each else "",
                ]
            )
        heads = [f"{share:.0%}" for share in found["settings"]["shares"]]
        heads += ["mean", "the default's is larger by", "other label without 20 %"]
        heads += ["short alone", "sums"]
        return table(["", *heads], rows)

    return make


@of("faithfulness.json")
def explain_times(found: Result) -> str:
    models = found["summary"]
    first = next(iter(models.values()))["milliseconds"]
    rows = [
        [way, *(between(each["milliseconds"][way]) for each in models.values())] for way in first
    ]
    return table(["", *(f"{name}, ms" for name in models)], rows)


@of("faithfulness.json")
def explain_machine(found: Result) -> str:
    accuracy = ", ".join(f"{k} {v['accuracy']:.3f}" for k, v in found["summary"].items())
    return (
        f"{found['settings']['reviews']} reviews, seed {found['settings']['seed']}, "
        f"accuracy of the models on all {found['settings']['held_out']:,} held-out reviews: "
        f"{accuracy}. "
        f"{found['machine']['cpu']}, {found['settings']['tidegate']['threads']} threads, "
        f"load average {load_average(found)} when it began; {made_by(found)}.\n"
    )


@of("serving.json")
def serving(found: Result) -> str:
    """Each load of the server, and one text at a time."""
    rows = []
    for run in found["runs"]:
        if run["load"] == "one at a time":
            continue
        refused = run["answered"] - run["statuses"].get("200", 0)
        rows.append(
            [
                f"{run['load']}, {'together' if run['batch'] > 1 else 'one by one'}",
                *(f"{run[key]:,.0f}" for key in ("sent", "per_second")),
                *(f"{run[key]:.2f}" for key in ("ms_p50", "ms_p99")),
                f"{refused:,}",
                f"{run['lost']:,}",
            ]
        )
    heads = ["load, scored", "requests", "answered a second", "p50, ms", "p99, ms", "503", "lost"]
    return table(heads, rows)


@of("serving.json")
def serving_words(found: Result) -> str:
    """What the server adds to one text, and what it holds after a minute of too much."""
    summary, settings = found["summary"], found["settings"]
    before, after = summary["twice_resident_mb"]
    return (
        f"One text of {settings['words']} words at a time: {summary['single_ms']:.2f} ms in the "
        f"median, the model itself {summary['single_model_ms']:.2f} ms in the same process as the "
        f"client, {summary['single_ms_more']:.2f} ms more. Memory before and after "
        f"{settings['overload_seconds']:.0f} s of twice the saturation: {before:.1f} and "
        f"{after:.1f} MB. {found['machine']['cpu']}, {found['machine']['cores']} cores for server "
        f"and client, {settings['workers']} worker; load average {load_average(found)} when it "
        f"began; {made_by(found)}.\n"
    )


@of("exported_page.json")
def exported_page(found: Result) -> str:
    """How far an exported page is from Python."""
    rows = []
    for run in found["runs"]:
        measured = "contributions" in run  # not so before pages explained as Python does
        rows.append(
            [
                f"`--preset {run['model']}`",
                run["weights"],
                f"{run['megabytes']:.1f} MB",
                f"{run['difference']:.1g}",
                f"{run['contributions']:.1g}" if measured else "not measured yet",
                f"{run['apart']} of {found['settings']['explained']}" if measured else "",
                f"{run['milliseconds']:,.0f}" if measured else "",
            ]
        )
    heads = ["model", "weights", "file", "probabilities", "contributions, nats", "above 0.001"]
    return table([*heads, "explanation, ms"], rows) + (
        f"\nThe time is the median review's, with the probability after each word. "
        f"{found['machine']['cpu']}, Chromium {found['versions']['chromium']}, load average "
        f"{load_average(found)} when it began; {made_by(found)}.\n"
    )


@of("accurate.json")
def accurate(found: Result) -> str:
    """The accurate preset on IMDB, its parts beside it."""
    sides = {"both": "both together", "network": "the network alone", "linear": "the n-grams alone"}
    summary = found["summary"]
    rows = []
    for side, name in sides.items():
        each = summary[f"{side} accuracy"]
        accuracies = [run["accuracy"][side] for run in found["runs"]]
        rows.append(
            [
                name,
                f"{each['mean']:.4f} ± {each['standard_deviation']:.4f}",
                ", ".join(f"{accuracy:.4f}" for accuracy in accuracies),
            ]
        )
    return table(["on 25,000 test reviews", "mean, standard deviation", "seeds 0 to 4"], rows)


@of("accurate.json")
def accurate_tests(found: Result) -> str:
    """What the paired tests say, and what the preset costs."""
    runs = found["runs"]
    largest = {name: max(run["mcnemar_p"][name] for run in runs) for name in runs[0]["mcnemar_p"]}
    epochs = [epoch["seconds"] for run in runs for epoch in run["epochs"]]
    # Not the runs' own seconds: of one that was resumed they lack what came before.
    trained = [sum(epoch["seconds"] for epoch in run["epochs"]) for run in runs]
    tests = "; ".join(f"{name} {p:.1g}" for name, p in largest.items())
    return (
        f"McNemar's exact test on the same reviews, the largest p of the {len(runs)} seeds: "
        f"{tests}. An epoch took {statistics.median(epochs):.0f} s, all of a training together "
        f"{statistics.median(trained):.0f} s ({min(trained):.0f} to {max(trained):.0f}), on "
        f"{found['settings']['threads']} threads of {found['machine']['cpu']} with other work "
        f"beside it (load average {load_average(found)} when it began); the file has "
        f"{runs[0]['file_bytes'] / 1e6:.0f} MB.\n"
    )


@of("own_files.json")
def own_files(found: Result) -> str:
    """The default preset on other data than IMDB, TF-IDF with logistic regression beside it."""
    rows = []
    for name, systems in found["summary"].items():
        theirs = systems["TF-IDF"]
        for system, ours in systems.items():
            if system == "TF-IDF":
                continue
            seeds = spread(ours["accuracy"], ("mean", "min", "max"), "{:.4f}".format)
            rows.append(
                [
                    name.replace("_", " "),
                    system,
                    seeds,
                    f"{theirs['accuracy']['mean']:.4f}",
                    f"{ours['mcnemar']['p']:.2g}",
                    f"{ours['train_seconds']['median']:.0f} s",
                    f"{theirs['choose_seconds']:.0f} s",
                ]
            )
    heads = ["set", "preset", "accuracy, range of the seeds", "TF-IDF", "p", "training"]
    return table([*heads, "TF-IDF's choosing"], rows)


@of("large_table.json")
def large_table(found: Result) -> str:
    """Training on a table that is larger than memory needs to be."""
    rows = [
        [
            f"{run['rows']:,}",
            f"{run['table_mb']:,.0f}",
            f"{run['seconds']:.0f}",
            f"{run['rows_per_second']:,.0f}",
            f"{run['own_peak_mb']:.0f}",
            f"{run['peak_mb']:.0f}",
        ]
        for run in found["runs"]
    ]
    heads = ["rows", "MB of CSV", "s in all"]
    return table([*heads, "rows a second", "own MB", "resident MB"], rows)


TABLES: dict[str, Table] = {
    "deletion-lecture": deletion("lecture"),
    "deletion-default": deletion("default"),
    "explain-times": explain_times,
    "explain-machine": explain_machine,
    "serving": serving,
    "serving-words": serving_words,
    "exported-page": exported_page,
    "accurate": accurate,
    "accurate-tests": accurate_tests,
    "own-files": own_files,
    "large-table": large_table,
}
