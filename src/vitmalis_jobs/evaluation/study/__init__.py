"""The report of a study: the runs of one or more sweeps compared with each other and with the paper."""
