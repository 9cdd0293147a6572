"""Pictures and tables of arc runs: training, halting, encoder health, predictions."""
