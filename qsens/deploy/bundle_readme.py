"""`README.md` of a bundle: what it is, how to check it and how to run it."""

from collections.abc import Mapping
from typing import Any

from qsens.core.targets import Target
from qsens.device.samplers import METHOD, STEPS

_PAGE = """\
# {name} for {title}

{summary}

| | |
|---|---|
| model | {name}, graph `{graph}` |
| map | trial {trial}; {shares} |
| engine | {runtime}, batch {batch}, inputs {inputs} |
| picture | output `{picture}`, values {low:g} to {high:g} ({colours}) |
{scores}{notes}{notice}{returned}
## Check it

```sh
python verify.py --digest HEX
```

It needs {needs} (Python 3.8 or later) and nothing of qsens. It compares all files with
`SHA256SUMS` before it runs any of them, builds the engine, asks it what every layer really runs in, compares
its pictures with `goldens.npz`, and measures latency. `--json` prints JSON, `--no-latency` leaves the
measuring out, `--latency-json FILE` writes a latency file that `qsens select` and `qsens devices` read.

HEX is the digest that `qsens export` printed: the sha256 of `SHA256SUMS`, which no file of the bundle can
tell. Without it damage is found, but whoever changes a file can change its sum, and this script, as well:
take the digest from whom you have the bundle, and compare `sha256sum SHA256SUMS` with it before you run
anything of a bundle that you do not trust. Run the script by its name, never with `python -m`.

| exit code | meaning |
|---|---|
| 0 | fine |
| 1 | damaged, another digest, or the runtime is missing or refuses the graph |
| 4 | a layer runs in another precision than `layers.csv` expects, or the pictures are too far off |

The pictures must reach {fp32:.1f} dB PSNR against FP32's and {exact:.1f} dB against those that were scored:
exact arithmetic reaches {of_exact:.1f} dB against FP32, and two right engines differ in their roundings.

With qsens at hand, `qsens verify FOLDER` runs the same checks, and `--score` scores the engine again.

## Files

| file | |
|---|---|
| `model.onnx` | the graph with this map, {flavour} flavour{external} |
| `layers.csv` | every layer: torch name, ONNX node, engine layer; asked, expected, what ran at export |
| `precision_map.json`, `bundle.json` | the chosen map; everything about this bundle |
| `ranges.json` | what calibration measured, and the scales |
| `goldens.npz` | inputs, outputs of FP32 and of the map in exact arithmetic; `names` says which is which |
{beyond}| `verify.py`, `qsens/device/` | the check |
{more_files}| `SHA256SUMS` | `sha256sum --check SHA256SUMS` |

## Run it

{usage}
{loop}
"""


_BEYOND = "| `beyond.npz` | the same of inputs beyond what calibration saw, with bounds of their own |\n"


def readme_text(
    document: Mapping[str, Any], target: Target, extra_files: Mapping[str, str], *, command: str | None
) -> str:
    """The page for the content of a `bundle.json`.

    `extra_files` are further files and what they are; `command` builds the engine, where the target has one.
    """
    picture, goldens = document["picture"], document["goldens"]
    low, high = picture["value_range"]
    return _PAGE.format(
        beyond=_BEYOND if goldens.get("beyond") else "",
        name=document["model"]["name"],
        title=target.title,
        summary=f"A generator with a precision for every layer, exported by qsens {document['qsens']}.",
        graph=document["model"]["graph"][:16],
        trial=document["scores"]["trial"],
        shares=_shares(document),
        runtime=_runtime(document),
        batch=document["batch"],
        inputs=", ".join(f"`{entry['name']}` {_by(_shape(entry, document))}" for entry in document["inputs"]),
        picture=picture["output"],
        low=low,
        high=high,
        colours=picture["colour_order"],
        scores=_scores(document),
        notes="".join(f"\n{sentence}\n" for sentence in document["notes"]),
        notice=_notice(document["model"]["notice"]),
        returned=_returned(document, target.title),
        needs=target.needs,
        fp32=goldens["bounds"]["fp32_psnr_db"],
        exact=goldens["bounds"]["exact_psnr_db"],
        of_exact=goldens["exact_psnr_db"],
        usage=_usage(document, target, command or ""),
        loop=_loop(document),
        flavour=document["flavour"],
        external="; its weights lie in `model.onnx.data`" if "model.onnx.data" in extra_files else "",
        more_files="".join(f"| `{name}` | {text} |\n" for name, text in extra_files.items()),
    )


def _shares(document: Mapping[str, Any]) -> str:
    share = _percent(document["map"]["int8_macs_share_deployed"])
    work = document.get("all_work")
    if work is None:
        return f"{share} of the multiply-accumulates in INT8"
    return (
        f"{share} of the layers' multiply-accumulates in INT8, {_percent(work['int8_share'])} of all work. "
        f"{work['text']}"
    )


def _runtime(document: Mapping[str, Any]) -> str:
    """The runtime with the version that was audited: others may fuse other layers into INT8 kernels."""
    audit = document["export_audit"]
    if audit is None:
        return f"{document['runtime']} (not audited at export)"
    return f"{document['runtime']} (audited at export with {audit['runtime']['version']})"


def _scores(document: Mapping[str, Any]) -> str:
    """A row for each score; where layers went back to float they are those of another map, and say so."""
    fp32 = {entry["metric"]: entry["value"] for entry in document["scores"]["fp32"] or ()}
    is_another = any(row["reason"] for row in document["layers"])
    whose = " of the map as asked, not as exported" if is_another else ""
    rows = []
    for entry in document["scores"]["chosen"]:
        value, exact = _number(entry["value"]), _number(fp32.get(entry["metric"]))
        rows.append(f"| {entry['metric']}{whose} | {value}, FP32 {exact} |\n")
    return "".join(rows)


def _returned(document: Mapping[str, Any], title: str) -> str:
    rows = [layer for layer in document["layers"] if layer["reason"]]
    if not rows:
        return ""
    mapped = document["map"]
    lines = [
        f"\n## Layers that were to be INT8 and are in float\n\n{title} has no INT8 kernel for them. In float "
        "they are not worse, and not slower than quantized values in float arithmetic. INT8 share of the "
        f"multiply-accumulates: {_percent(mapped['int8_macs_share_requested'])} asked, "
        f"{_percent(mapped['int8_macs_share_deployed'])} exported.\n",
        "| layer | runs in | why |\n|---|---|---|",
        *(f"| {row['layer']} | {row['expected']} | {row['reason']} |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def _notice(notice: str | None) -> str:
    return f"\nLicence of the generator: {notice}\n" if notice else ""


def _usage(document: Mapping[str, Any], target: Target, command: str) -> str:
    names = [entry["name"] for entry in document["inputs"]]
    held = (document.get("loop") or {}).get("samples", names)
    feeds = ", ".join(
        f"{entry['name']!r}: goldens['input_{held.index(entry['name'])}'][{_first(entry, document)}]"
        if entry["name"] in held
        else f"{entry['name']!r}: np.zeros({_shape(entry, document)}, '{entry['dtype']}')"
        for entry in document["inputs"]
    )
    shapes = {entry["name"]: list(_shape(entry, document)) for entry in document["inputs"]}
    return target.usage.format(
        feeds=f"{{{feeds}}}",
        picture=document["picture"]["output"],
        shapes=shapes,
        command=command.rstrip(),
    )


_LOOPED = """
### The loop

One call is not a picture: {what}.
`qsens/device/{module}.py` plays it, and needs NumPy alone:

```python
# in this folder, with `run` a function from the inputs of one call to its outputs
from pathlib import Path

from qsens.device.bundle_files import read_bundle
from qsens.device.goldens import bundle_goldens, run_in_batches

bundle = read_bundle(Path("."))
loop = bundle.opened_loop(bundle.batch)
samples = bundle_goldens(bundle).inputs
made = run_in_batches(run, samples, bundle.sample_inputs, bundle.batch, loop)
```
"""


def _loop(document: Mapping[str, Any]) -> str:
    loop = document.get("loop")
    if loop is None:
        return ""
    options = loop["options"]
    if loop["name"] == "recurrent":
        pairs = ", ".join(f"`{made}` becomes `{source}`" for source, made in options["states"].items())
        what = f"of one frame {pairs} of the next one of its clip, which begin as zeros"
        return _LOOPED.format(what=what, module="loops")
    steps, method = options.get("steps", STEPS), options.get("method", METHOD)
    what = f"`{options['noisy']}` goes from noise to a picture in {steps} calls ({method})"
    return _LOOPED.format(what=what, module="samplers")


def _first(entry: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    return f"[0] * {document['batch']}" if entry["is_batched"] else "0"


def _shape(entry: Mapping[str, Any], document: Mapping[str, Any]) -> tuple[int, ...]:
    return ((document["batch"],) if entry["is_batched"] else ()) + tuple(entry["shape"])


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
