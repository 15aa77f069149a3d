"""One file per table, or step on the way to one: schemas, rows, Parquet."""
