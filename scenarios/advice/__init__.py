"""Advice for a link: what each method sends there, and how long a round takes, by the engines' own accounting."""
