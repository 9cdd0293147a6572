"""Phase 4: predicting teachability from what can be seen before anything is labelled."""
