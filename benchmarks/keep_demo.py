"""Keep the small results of a demo run in reports/demo: figures, tables, the chosen map.

python benchmarks/keep_demo.py reports/demo-talker
"""

import shutil
import sys
from pathlib import Path

from PIL import Image

KEPT = ("trials.csv", "sensitivity.csv", "layers.csv", "precision_map.json", "figures/*.png")
LARGEST_BYTES = 300_000


def main() -> None:
    """Copy what is kept and say what was too large."""
    run, kept = Path(sys.argv[1]), Path(__file__).parents[1] / "reports" / "demo"
    shutil.rmtree(kept, ignore_errors=True)
    for pattern in KEPT:
        for path in sorted(run.glob(pattern)):
            if path.name == "samples.png":
                continue  # pictures whose colours are what one looks at
            to = kept / path.relative_to(run)
            to.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".png":
                # Lines and letters on white: 256 colours are enough, at half the size.
                Image.open(path).convert("RGB").quantize(256).save(to, optimize=True)
            else:
                shutil.copyfile(path, to)
            if to.stat().st_size > LARGEST_BYTES:
                print(f"left out, {to.stat().st_size:,} bytes: {path}")
                to.unlink()


if __name__ == "__main__":
    main()
