"""Pictures and tables of teach: labels, trainings, predictors, selections."""
