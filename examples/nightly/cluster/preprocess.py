"""Clean the generated rows with Spark, and hold a fifth of them out for the validation."""

from __future__ import annotations

import attempt
import settings
import storage
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

NUMBERS = ("bytes", "seconds")


def main() -> None:
    _, days = settings.parse(__doc__ or "")
    with attempt.only(f"preprocess-{days}"), storage.spark("preprocess") as session:
        rows = cleaned(storage.read(session, storage.path("raw", days)))
        target = storage.path("processed", days)
        storage.write(session, rows, target)
        print(f"wrote {session.read.parquet(target).count()} rows to {target}")


def cleaned(rows: DataFrame) -> DataFrame:
    """Logarithms of the numbers; a negative or missing one becomes the median."""
    for name in NUMBERS:
        rows = rows.withColumn(name, F.when(F.col(name) > 0, F.log(F.col(name))))
    medians = rows.approxQuantile(list(NUMBERS), [0.5], 0.001)
    rows = rows.fillna({name: found[0] for name, found in zip(NUMBERS, medians, strict=True)})
    return rows.withColumn("held_out", F.pmod(F.xxhash64("id"), F.lit(5)) == 0)


if __name__ == "__main__":
    attempt.run(main)
