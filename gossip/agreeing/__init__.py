"""What all peers must share before they learn, agreed on by themselves: statistics of tables, from sums under masks."""
