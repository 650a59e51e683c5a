"""Writes the names of an installed TensorRT's Python binding, for the test that no removed name is used.

Only names: of the module, of the classes that building and running need, and which properties can be set
(`dtype=` beside `dtype`). The bindings need TensorRT's libraries to be imported; no GPU is touched.

python benchmarks/gpu/api_names.py tests/data/tensorrt/names-10.16.1.json
python benchmarks/gpu/api_names.py --module tensorrt_rtx_bindings tests/data/tensorrt/names-rtx-1.7.1.json
"""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

CLASSES = (
    "Builder",
    "BuilderFlag",
    "DataType",
    "EngineInspector",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "IHostMemory",
    "ILayer",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IProfiler",
    "ITensor",
    "ITimingCache",
    "LayerInformationFormat",
    "LayerType",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "ParserError",
    "ProfilingVerbosity",
    "Runtime",
    "TensorIOMode",
)


def main() -> None:
    """Write one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--module", default="tensorrt")
    parser.add_argument("path", type=Path)
    arguments = parser.parse_args()
    module = importlib.import_module(arguments.module)
    table = {
        "version": module.__version__,
        "source": f"listed from the binding {arguments.module} {module.__version__} by api_names.py",
        "module": [*(name for name in dir(module) if not name.startswith("_")), "__version__"],
        "classes": {name: names_of(getattr(module, name)) for name in CLASSES if hasattr(module, name)},
    }
    arguments.path.parent.mkdir(parents=True, exist_ok=True)
    arguments.path.write_text(json.dumps(table, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{arguments.path}: {sum(map(len, table['classes'].values()))} names of {table['version']}")


def names_of(kind: Any) -> list[str]:
    """Public names of a class, and `name=` for every property that can be set."""
    public = sorted(name for name in dir(kind) if not name.startswith("_"))
    settable = [f"{name}=" for name in public if getattr(getattr(kind, name), "fset", None) is not None]
    return public + settable


if __name__ == "__main__":
    main()
