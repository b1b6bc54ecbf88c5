"""Instruments of experiments, built from labs, traffic and observation: fill a queue, watch a TIME-WAIT grow old."""
