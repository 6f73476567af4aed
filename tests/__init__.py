"""The tests, and the plain second implementations they check against."""
