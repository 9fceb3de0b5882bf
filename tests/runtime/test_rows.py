"""Tables as files, read back."""

import csv

from tpdm.runtime.rows import as_csv


def test_what_is_written_is_read_back():
    rows = [{"name": 'a "red", cat\nsleeps', "nfe": 7}, {"name": "b", "mse": None, "nfe": 0.25}]
    read = list(csv.DictReader(as_csv(rows).splitlines(keepends=True)))
    assert read == [
        {"name": rows[0]["name"], "nfe": "7", "mse": ""},
        {"name": "b", "nfe": "0.25", "mse": ""},
    ]
