"""What every job needs: typed configuration, MLflow store, console, plots, machine facts, exit status."""
