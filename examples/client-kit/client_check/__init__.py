"""What check.py asks, one module for each concern; needs nothing but Python 3.9."""
