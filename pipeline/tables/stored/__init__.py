"""How rows become files: results that a worker kept, and Parquet made of them."""
