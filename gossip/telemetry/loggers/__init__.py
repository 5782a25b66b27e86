"""Where measurements go beside metrics.jsonl: what a run is watched and compared with."""
