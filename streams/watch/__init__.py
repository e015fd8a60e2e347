"""The watch stage: lists of look-alikes pushed when they change."""
