"""Statistics on arrays: tests, intervals, effects, power. Pure: no files, clocks or hidden draws.

Every function refuses NaN and wrong shapes with an error; none decides anything.
"""
