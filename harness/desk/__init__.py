"""An incident on the desk: an experiment that stands for a finding, as a scenario to keep, and its remedies tried."""
