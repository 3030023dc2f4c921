"""The week of the jobs for people: outcomes, what is due, what grows."""
