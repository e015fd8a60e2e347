"""Changes onto the topics that others write: files of people, folders of pictures, and how they are sent."""
