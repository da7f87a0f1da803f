"""The write side: commands become events. It owns the event database."""
