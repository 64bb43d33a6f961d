"""Generate the requests of some days, and write them to HDFS. The same days give the same rows."""

from __future__ import annotations

from datetime import timedelta
from functools import reduce

import attempt
import settings
import storage
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

ROWS_PER_DAY = 20_000
#: Part of the values that are missing or negative, as in real logs.
BAD = 0.01


def main() -> None:
    _, days = settings.parse(__doc__ or "")
    with attempt.only(f"generate-{days}"), storage.spark("generate") as session:
        count = settings.number(settings.cluster(), "ROWS_PER_DAY", ROWS_PER_DAY)
        number = (days.last - days.first).days + 1
        each = [
            day(session, (days.first + timedelta(one)).toordinal(), count) for one in range(number)
        ]
        rows = reduce(DataFrame.unionAll, each)
        target = storage.path("raw", days)
        storage.write(session, rows, target)
        print(f"wrote {number * count} rows to {target}")


def day(session: SparkSession, ordinal: int, count: int) -> DataFrame:
    """The rows of one day; id is unique among all days."""
    seeds = [ordinal * 10 + number for number in range(7)]
    size, rate, noise = (F.randn(seed) for seed in seeds[:3])
    kind = F.element_at(
        F.array(*map(F.lit, ("web", "mail", "batch"))), (F.rand(seeds[3]) * 3).cast("int") + 1
    )
    rows = session.range(0, count, 1, 2).select(
        (F.lit(ordinal * 10_000_000) + F.col("id")).alias("id"),
        size.alias("x"),
        rate.alias("y"),
        kind.alias("kind"),
        noise.alias("noise"),
        F.rand(seeds[4]).alias("lost"),
        F.rand(seeds[5]).alias("wrong"),
    )
    # Large and fast, or small and slow: a straight line separates little of it.
    score = F.col("x") * F.col("y") * 2 + F.col("x") + F.col("noise") * 0.7
    score += F.when(F.col("kind") == "batch", 0.8).otherwise(0.0)
    seconds = F.exp(F.col("y"))
    return rows.select(
        "id",
        F.when(F.col("lost") >= BAD, F.exp(F.col("x") * 1.5 + 7)).alias("bytes"),
        F.when(F.col("wrong") < BAD, -seconds).otherwise(seconds).alias("seconds"),
        "kind",
        (score > 0.8).cast("int").alias("label"),
    )


if __name__ == "__main__":
    attempt.run(main)
