"""Tables in files that may come from another machine: Parquet, and journals of tables that are still growing."""
