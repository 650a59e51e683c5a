"""Keep the small results of a demo run in reports/demo: figures, tables, the chosen map.

python benchmarks/keep_demo.py reports/demo-talker
"""

import shutil
import sys
from pathlib import Path

KEPT = ("trials.csv", "sensitivity.csv", "layers.csv", "precision_map.json", "figures/*.png")
LARGEST_BYTES = 300_000


def main() -> None:
    """Copy what is kept and say what was too large."""
    run, kept = Path(sys.argv[1]), Path(__file__).parents[1] / "reports" / "demo"
    shutil.rmtree(kept, ignore_errors=True)
    for pattern in KEPT:
        for path in sorted(run.glob(pattern)):
            if path.stat().st_size > LARGEST_BYTES:
                print(f"left out, {path.stat().st_size:,} bytes: {path}")
                continue
            to = kept / path.relative_to(run)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to)


if __name__ == "__main__":
    main()
