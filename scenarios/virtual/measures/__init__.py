"""What is measured of a virtual run, by rounds or by time."""
