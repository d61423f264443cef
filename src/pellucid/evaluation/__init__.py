"""How good a classifier is: predictions, scores with intervals, calibration, a report anybody can read."""
