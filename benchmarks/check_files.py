"""Time the check of image files before training: headers and ends of files, and whole decoding.

python benchmarks/check_files.py FOLDER [--workers 0] [--repeats 5]

FOLDER has one folder of images per class. The files are read once before the first timing, so that the disk is not
timed. Prints microseconds per image, median and range.
"""

import statistics
import time
from pathlib import Path

from tyro.conf import Positional

from famkd.command_line.main import run_script
from famkd.data import unreadable
from famkd.data.folder_source import FolderSource, of_classes
from famkd.data.tree import class_folders


def microseconds(source: FolderSource, workers: int) -> float:
    """Time of one check, divided by the number of images."""
    unreadable.forget()
    start = time.perf_counter()
    unreadable.find_unreadable(source, workers)
    return 1e6 * (time.perf_counter() - start) / len(source)


def check_files(folder: Positional[Path], workers: int = 0, repeats: int = 5) -> None:
    """Time both checks of the images in a folder with one folder per class."""
    source = of_classes(folder, list(class_folders(folder)))
    size = sum(len(source.read(index)) for index in range(len(source)))
    print(f"{len(source):,} images, {size / 2**20:.1f} MiB, {workers} workers")
    for name, limit in (("headers and ends", 0), ("decoded whole", 1 << 62)):
        unreadable.WHOLE = limit
        times = [microseconds(source, workers) for _ in range(repeats)]
        median, low, high = statistics.median(times), min(times), max(times)
        print(f"{name}: {median:.0f} microseconds per image ({low:.0f} to {high:.0f}, n {repeats})")


if __name__ == "__main__":
    run_script(check_files)
