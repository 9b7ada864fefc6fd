"""Writes the rows.csv that `harness check`, `compare`, `report` and `verify` read: one row per finished training run.

Python 3.8 or later, no package needed. The columns are explained in results/README.md, "Rows of other programs".
"""
import contextlib
import csv
import os

try:
    import fcntl  # absent on Windows: there, only one process may write to a file at a time
except ImportError:
    fcntl = None

REQUIRED = ("method", "dataset", "protocol", "T", "seed", "top1")
OTHER_NAMES = ("protocol_id", "train_time_steps", "time_steps", "top1_last")  # of required columns


def add_row(path, method, dataset, protocol, T, seed, top1, **more):
    """Adds one run to the CSV file `path`, which is created if it is absent. `T` is None for a net without time steps.

    Every further keyword becomes a column. Runs that differ in it are never averaged, so name each setting that you
    vary (lr=0.1), and begin the name of a remark or measurement with `note_` (note_gpu="A100"). With
    test_samples=10000 the harness can state the error of a single accuracy.

    The file is replaced as a whole, so a reader never sees half of it. Processes that add to one file wait for each
    other. Raises ValueError, and leaves the file as it was, if a value or the file's header is wrong.
    """
    for name, value in (("seed", seed), ("T", 0 if T is None else T)):
        if not (str(value).isascii() and str(value).isdecimal()):
            raise ValueError(f"{name}: expected a whole number from 0 on, got {value!r}")
    if not 0 <= float(top1) <= 1:
        raise ValueError(f"top1: expected a fraction between 0 and 1 (0.9412 for 94.12 %), got {top1!r}")
    for name in OTHER_NAMES:
        if name in more:
            raise ValueError(f"{name}: this is another name of a required column; pass one of {', '.join(REQUIRED)}")
    row = {**dict(zip(REQUIRED, (method, dataset, protocol, T, seed, float(top1)))), **more}
    with _locked(path):
        rows, columns = _read(path)
        _replace(path, rows + [row], columns + [name for name in row if name not in columns])


@contextlib.contextmanager
def _locked(path):
    with open(f"{path}.lock", "w") as lock:
        if fcntl:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read(path):
    if not os.path.exists(path) or os.path.getsize(path) == 0:
        return [], list(REQUIRED)
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows, columns = list(reader), list(reader.fieldnames)
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise ValueError(f"{path}: the header lacks {', '.join(missing)}; add rows only to a file that this writer made")
    if any(None in row or None in row.values() for row in rows):
        raise ValueError(f"{path}: a row has more or fewer fields than the header; correct that row first")
    return rows, columns


def _replace(path, rows, columns):
    text = {True: "true", False: "false"}
    temporary = f"{path}.tmp"
    with open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: text[v] if isinstance(v, bool) else v for key, v in row.items()} for row in rows)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


if __name__ == "__main__":
    for lr in (0.1, 0.01):  # two learning rates are two experiments of three runs each
        for seed in range(3):
            add_row("rows.csv", "mine", "shapes", "shapes/official", 4, seed, 0.9 + lr / 10 + seed / 1000, lr=lr)
