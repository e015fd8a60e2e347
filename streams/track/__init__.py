"""The track stage: what each item is now, from catalog changes and stock levels."""
