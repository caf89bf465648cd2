"""A trained model that captions pictures, and what it is made of; autocaption/api.py gives it to people."""
