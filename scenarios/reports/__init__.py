"""What people see of runs: the page, its figures and tables, and the same few figures in a terminal."""
