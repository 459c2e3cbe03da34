"""Time the check of image files before training: headers and ends of files, and whole decoding.

python benchmarks/check_files.py FOLDER [--workers 0] [--repeats 5]

FOLDER has one folder of images per class. The files are read once before the first timing, so that the disk is not
timed. Prints microseconds per image, median and range.
"""

import argparse
import statistics
import time
from pathlib import Path

from famkd.data import unreadable
from famkd.data.folder_source import FolderSource, of_classes
from famkd.data.tree import class_folders


def microseconds(source: FolderSource, workers: int) -> float:
    """Time of one check, divided by the number of images."""
    unreadable.forget()
    start = time.perf_counter()
    unreadable.find_unreadable(source, workers)
    return 1e6 * (time.perf_counter() - start) / len(source)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    source = of_classes(options.folder, list(class_folders(options.folder)))
    size = sum(len(source.read(index)) for index in range(len(source)))
    print(f"{len(source):,} images, {size / 2**20:.1f} MiB, {options.workers} workers")
    for name, limit in (("headers and ends", 0), ("decoded whole", 1 << 62)):
        unreadable.WHOLE = limit
        times = [microseconds(source, options.workers) for _ in range(options.repeats)]
        median, low, high = statistics.median(times), min(times), max(times)
        print(f"{name}: {median:.0f} microseconds per image ({low:.0f} to {high:.0f}, n {options.repeats})")


if __name__ == "__main__":
    main()
