"""The report of a study: many runs compared, beside what the paper says of them."""
