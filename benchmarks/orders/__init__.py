"""The app of the site whose transactions are measured."""
