"""The worker's web server: keys, limits, health, the console, and how calls are read and answered."""
