"""Write every fifth class of CIFAR-100 as a data set of 20 classes: python benchmarks/truth/subset.py SOURCE OUT

SOURCE is cifar100.npz, with x_train, y_train, x_test and y_test. OUT is an .npz with 10,000 training and 2,000 test
images, for studies that all of CIFAR-100 would make too long.
"""

import numpy as np
from tyro.conf import Positional

from famkd.command_line.main import run_script
from famkd.data.archives import npz

EVERY = 5


def subset(source: Positional[str], out: Positional[str]) -> None:
    """Write the images of the classes 0, 5, 10 and so on, numbered from 0."""
    images, parts = npz(source), {}
    for split in ("train", "test"):
        labels = getattr(images, f"y_{split}")
        kept = labels % EVERY == 0
        parts[f"x_{split}"] = getattr(images, f"x_{split}")[kept]
        parts[f"y_{split}"] = labels[kept] // EVERY
    np.savez(out, **parts)
    print(f"{out}: {len(parts['y_train']):,} training and {len(parts['y_test']):,} test images")


if __name__ == "__main__":
    run_script(subset)
