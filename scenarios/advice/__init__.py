"""Advice for a link: what each method sends there, and how long a round takes, counted by the engines' own accounting."""
